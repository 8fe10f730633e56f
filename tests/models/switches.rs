//! Rules that can be switched off one by one.

/// One list makes the switches, the state in which all are on, and their names.
macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident,)*) => {
        #[derive(Clone, Copy, Debug)]
        pub struct Rules {
            $($(#[$doc])* pub $rule: bool,)*
        }

        impl Rules {
            pub const ALL: Self = Self { $($rule: true,)* };
            pub const NAMES: &[&str] = &[$(stringify!($rule),)*];

            pub fn without(name: &str) -> Self {
                let mut rules = Self::ALL;
                match name {
                    $(stringify!($rule) => rules.$rule = false,)*
                    _ => panic!("no rule {name}"),
                }
                rules
            }
        }
    };
}
