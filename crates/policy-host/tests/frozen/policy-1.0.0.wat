;; A policy against cellar:policy@1.0.0, written by hand: so many units, and none comes back. It stands here as it was
;; when the interface was frozen, and is never brought up to date.
(component
  (core module $policy
    (memory (export "memory") 4)
    ;; What the host passes lies from here on, and is forgotten at the end of each call.
    (global $top (mut i32) (i32.const 65536))
    ;; 1024: results. 1100: a state. 1152: parameters. 1200: a problem.
    (data (i32.const 2048) "{\22name\22:\22frozen\22,\22version\22:\221.0.0\22,\22unit\22:\22requests\22,\22state_schema\22:1,\22settings_schema\22:{\22type\22:\22object\22}}")
    (data (i32.const 4096) "/limit")
    (data (i32.const 4112) "must be a number above 0")
    (data (i32.const 4160) "only schema 1 was ever written")

    (func (export "realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
      (local $at i32)
      (if (local.get $old) (then unreachable))
      (local.set $at
        (i32.and
          (i32.add (global.get $top) (i32.sub (local.get $align) (i32.const 1)))
          (i32.sub (i32.const 0) (local.get $align))))
      (global.set $top (i32.add (local.get $at) (local.get $size)))
      local.get $at)

    (func (export "describe") (result i32)
      (i32.store (i32.const 1024) (i32.const 2048))
      (i32.store (i32.const 1028) (i32.const 106))
      i32.const 1024)

    ;; The limit is whatever digits there are.
    (func (export "configure") (param $at i32) (param $length i32) (result i32)
      (local $limit i64) (local $byte i32)
      (global.set $top (i32.const 65536))
      (block $done
        (loop $each
          (br_if $done (i32.eqz (local.get $length)))
          (local.set $byte (i32.sub (i32.load8_u (local.get $at)) (i32.const 48)))
          (if (i32.lt_u (local.get $byte) (i32.const 10))
            (then
              (local.set $limit
                (i64.add (i64.mul (local.get $limit) (i64.const 10)) (i64.extend_i32_u (local.get $byte))))))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (local.set $length (i32.sub (local.get $length) (i32.const 1)))
          (br $each)))
      (if (i64.eqz (local.get $limit))
        (then
          (i32.store (i32.const 1200) (i32.const 4096))
          (i32.store (i32.const 1204) (i32.const 6))
          (i32.store (i32.const 1208) (i32.const 4112))
          (i32.store (i32.const 1212) (i32.const 24))
          (i32.store8 (i32.const 1024) (i32.const 1))
          (i32.store (i32.const 1028) (i32.const 1200))
          (i32.store (i32.const 1032) (i32.const 1)))
        (else
          (i64.store (i32.const 1152) (local.get $limit))
          (i32.store8 (i32.const 1024) (i32.const 0))
          (i32.store (i32.const 1028) (i32.const 1152))
          (i32.store (i32.const 1032) (i32.const 8))))
      i32.const 1024)

    (func (export "decide")
      (param $parameters i32) (param $parameters_length i32) (param $state i32) (param $state_length i32)
      (param $operation i32) (param $now i64) (param $cost i64) (param $held i64) (param $held_at i64)
      (param $attributes i32) (param $attributes_length i32)
      (result i32)
      (local $limit i64) (local $spent i64) (local $admitted i32) (local $changes i32) (local $note i32)
      (global.set $top (i32.const 65536))
      (local.set $limit (i64.load (local.get $parameters)))
      (if (local.get $state_length) (then (local.set $spent (i64.load (local.get $state)))))
      (local.set $admitted (i32.const 1))
      (if (i32.eq (local.get $operation) (i32.const 2))
        (then
          ;; A settle: charged or given back, and never denied.
          (local.set $changes (i32.const 1))
          (local.set $spent (i64.add (local.get $spent) (local.get $cost)))
          (local.set $spent
            (select
              (i64.sub (local.get $spent) (local.get $held))
              (i64.const 0)
              (i64.gt_u (local.get $spent) (local.get $held)))))
        (else
          (if (i32.and (i32.ne (local.get $operation) (i32.const 3)) (i64.ne (local.get $cost) (i64.const 0)))
            (then
              (if (i64.le_u (i64.add (local.get $spent) (local.get $cost)) (local.get $limit))
                (then
                  (local.set $changes (i32.const 1))
                  (local.set $spent (i64.add (local.get $spent) (local.get $cost))))
                (else (local.set $admitted (i32.const 0))))))))
      ;; How long the first attribute's value is: who reads it has found the list, the record and the text.
      (if (local.get $attributes_length) (then (local.set $note (i32.load offset=12 (local.get $attributes)))))
      (i64.store (i32.const 1100) (local.get $spent))
      (i32.store8 (i32.const 1024) (local.get $admitted))
      (i32.store8 (i32.const 1028) (local.get $changes))
      (i32.store (i32.const 1032) (i32.const 1100))
      (i32.store (i32.const 1036) (i32.const 8))
      (i64.store (i32.const 1040) (local.get $limit))
      (i64.store (i32.const 1048)
        (select
          (i64.sub (local.get $limit) (local.get $spent))
          (i64.const 0)
          (i64.gt_u (local.get $limit) (local.get $spent))))
      (i64.store (i32.const 1056) (i64.const 0))
      (i64.store (i32.const 1064) (i64.const 0))
      (i32.store (i32.const 1072) (local.get $note))
      i32.const 1024)

    (func (export "migrate")
      (param $schema i32) (param $parameters i32) (param $parameters_length i32) (param $state i32)
      (param $state_length i32)
      (result i32)
      (global.set $top (i32.const 65536))
      (if (i32.eq (local.get $schema) (i32.const 1))
        (then
          (i64.store (i32.const 1100) (i64.load (local.get $state)))
          (i32.store8 (i32.const 1024) (i32.const 0))
          (i32.store (i32.const 1028) (i32.const 1100))
          (i32.store (i32.const 1032) (i32.const 8)))
        (else
          (i32.store8 (i32.const 1024) (i32.const 1))
          (i32.store (i32.const 1028) (i32.const 4160))
          (i32.store (i32.const 1032) (i32.const 30))))
      i32.const 1024))

  (core instance $i (instantiate $policy))
  (type $operation' (enum "consume" "reserve" "settle" "peek"))
  (type $attribute' (record (field "name" string) (field "value" string)))
  (type $request' (record (field "operation" $operation') (field "now" u64) (field "cost" u64)
    (field "held" u64) (field "held-at" u64) (field "attributes" (list $attribute'))))
  (type $outcome' (record (field "admitted" bool) (field "state" (option (list u8))) (field "limit" u64)
    (field "remaining" u64) (field "retry-after" u64) (field "reset-after" u64) (field "note" u32)))
  (type $problem' (record (field "pointer" string) (field "message" string)))
  (instance $types
    (export "operation" (type $operation')) (export "attribute" (type $attribute'))
    (export "request" (type $request')) (export "outcome" (type $outcome')) (export "problem" (type $problem')))
  (export $exported "cellar:policy/types@1.0.0" (instance $types))
  (alias export $exported "request" (type $request))
  (alias export $exported "outcome" (type $outcome))
  (alias export $exported "problem" (type $problem))
  (func $describe (result string)
    (canon lift (core func $i "describe") (memory (core memory $i "memory"))))
  (func $configure (param "settings" string) (result (result (list u8) (error (list $problem))))
    (canon lift (core func $i "configure") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (func $decide (param "parameters" (list u8)) (param "state" (list u8)) (param "request" $request) (result $outcome)
    (canon lift (core func $i "decide") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (func $migrate (param "from-schema" u32) (param "parameters" (list u8)) (param "state" (list u8))
      (result (result (list u8) (error string)))
    (canon lift (core func $i "migrate") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (instance $policy_instance
    (export "describe" (func $describe)) (export "configure" (func $configure))
    (export "decide" (func $decide)) (export "migrate" (func $migrate)))
  (export "cellar:policy/policy@1.0.0" (instance $policy_instance)))
