;; So many units for good. Placeholders in braces are filled in by spender.rs.
;;
;; Memory: 64 the parameters (the limit), 96 the state that is answered, 1024 an outcome, 2048 the description,
;; 3072 what the other functions return, from 4096 on what the host hands in.
(component
  (core module $m
    (memory (export "memory") 1)
    (data (i32.const 2048) "{description}")
    (data (i32.const 3000) "no")
    (global $free (mut i32) (i32.const 4096))
    (func (export "realloc") (param i32 i32) (param $align i32) (param $bytes i32) (result i32) (local $at i32)
      (local.set $at (i32.and
        (i32.add (global.get $free) (i32.sub (local.get $align) (i32.const 1)))
        (i32.sub (i32.const 0) (local.get $align))))
      (global.set $free (i32.add (local.get $at) (local.get $bytes)))
      (if (i32.gt_u (global.get $free) (i32.const 65536)) (then unreachable))
      local.get $at)
    (func (export "describe") (result i32)
      (i32.store (i32.const 3072) (i32.const 2048))
      (i32.store (i32.const 3076) (i32.const {description_bytes}))
      i32.const 3072)
    ;; The digits in the settings are the limit.
    (func (export "configure") (param $at i32) (param $bytes i32) (result i32)
      (local $end i32) (local $limit i64) (local $digit i32)
      (global.set $free (i32.const 4096))
      (local.set $end (i32.add (local.get $at) (local.get $bytes)))
      (block $done
        (loop $next
          (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
          (local.set $digit (i32.sub (i32.load8_u (local.get $at)) (i32.const 48)))
          (if (i32.lt_u (local.get $digit) (i32.const 10))
            (then (local.set $limit (i64.add
              (i64.mul (local.get $limit) (i64.const 10)) (i64.extend_i32_u (local.get $digit))))))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (br $next)))
      (i64.store (i32.const 64) (local.get $limit))
      (i32.store (i32.const 3072) (i32.const 0))
      (i32.store (i32.const 3076) (i32.const 64))
      (i32.store (i32.const 3080) (i32.const 8))
      i32.const 3072)
    ;; Puts what was spent where the answered state is: under schema 2 behind a mark.
    (func $keep (param $spent i64)
      (i64.store (i32.const 96) (i64.const 0x6b72616d))
      (i64.store (i32.const {state_at}) (local.get $spent)))
    (func (export "decide")
      (param $parameters i32) (param i32) (param $state i32) (param $bytes i32) (param $operation i32)
      (param $now i64) (param $cost i64) (param $held i64) (param i64 i32 i32) (result i32)
      (local $limit i64) (local $spent i64) (local $admitted i32) (local $writes i32)
      (global.set $free (i32.const 4096))
      (local.set $limit (i64.load (local.get $parameters)))
      (if (local.get $bytes)
        (then
          (if (i32.ne (local.get $bytes) (i32.const {state_bytes})) (then unreachable))
          (local.set $spent (i64.load offset={spent_at} (local.get $state)))))
      {harm}
      (if (i32.eq (local.get $operation) (i32.const 2))
        (then
          ;; A settle: what was held is given back, what was used is taken.
          (local.set $spent (i64.add (local.get $spent) (local.get $cost)))
          (local.set $spent (select
            (i64.sub (local.get $spent) (local.get $held)) (i64.const 0)
            (i64.ge_u (local.get $spent) (local.get $held))))
          (local.set $admitted (i32.const 1))
          (local.set $writes (i32.const 1)))
        (else
          (if (i32.or (i64.eqz (local.get $cost)) (i32.eq (local.get $operation) (i32.const 3)))
            (then (local.set $admitted (i32.const 1)))
            (else
              (if (i64.le_u (i64.add (local.get $spent) (local.get $cost)) (local.get $limit))
                (then
                  (local.set $spent (i64.add (local.get $spent) (local.get $cost)))
                  (local.set $admitted (i32.const 1))
                  (local.set $writes (i32.const 1))))))))
      (call $keep (local.get $spent))
      (i32.store (i32.const 1024) (local.get $admitted))
      (i32.store (i32.const 1028) (local.get $writes))
      (i32.store (i32.const 1032) (i32.const 96))
      (i32.store (i32.const 1036) (i32.const {state_bytes}))
      (i64.store (i32.const 1040) (local.get $limit))
      (i64.store (i32.const 1048) (select
        (i64.sub (local.get $limit) (local.get $spent)) (i64.const 0)
        (i64.ge_u (local.get $limit) (local.get $spent))))
      (i64.store (i32.const 1056) (i64.const 0))
      (i64.store (i32.const 1064) (i64.const 0))
      (i32.store (i32.const 1072) (i32.const 0))
      i32.const 1024)
    (func (export "migrate")
      (param $from i32) (param i32 i32) (param $state i32) (param $bytes i32) (result i32)
      (global.set $free (i32.const 4096))
      (if (i32.or (i32.eqz (i32.const {migrates})) (i32.ne (local.get $bytes) (i32.const {other_bytes})))
        (then
          (i32.store (i32.const 3072) (i32.const 1))
          (i32.store (i32.const 3076) (i32.const 3000))
          (i32.store (i32.const 3080) (i32.const 2)))
        (else
          (call $keep (i64.mul
            (i64.load offset={other_spent_at} (local.get $state)) (i64.const {carries})))
          (i32.store (i32.const 3072) (i32.const 0))
          (i32.store (i32.const 3076) (i32.const 96))
          (i32.store (i32.const 3080) (i32.const {state_bytes}))))
      i32.const 3072))
  (core instance $i (instantiate $m))
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
  (instance $policy
    (export "describe" (func $describe)) (export "configure" (func $configure))
    (export "decide" (func $decide)) (export "migrate" (func $migrate)))
  (export "cellar:policy/policy@1.0.0" (instance $policy)))
