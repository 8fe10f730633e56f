//! The form of parameters and states: their fields one after another, little-endian, each at its
//! full width. Nothing to parse, and equal values have equal bytes.

/// A value of a fixed number of bytes. [`fixed_struct!`](crate::fixed_struct) writes the
/// implementation for a struct. There is one for `u8`, `u16`, `u32`, `u64` and `bool`.
pub trait Fixed: Sized {
    /// How many bytes: a state has 1 to 4,096, parameters at most 65,536.
    const BYTES: usize;

    /// Puts the value's bytes at the end.
    fn append(&self, bytes: &mut Vec<u8>);

    /// Takes the value off the front; none if there are too few bytes or they mean nothing.
    fn take(bytes: &mut &[u8]) -> Option<Self>;

    /// The value's bytes and nothing else.
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::BYTES);
        self.append(&mut bytes);
        bytes
    }

    /// The whole of `bytes` and nothing else.
    fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let value = Self::take(&mut bytes)?;
        bytes.is_empty().then_some(value)
    }
}

macro_rules! fixed_integer {
    ($($integer:ty),*) => {$(
        impl Fixed for $integer {
            const BYTES: usize = size_of::<$integer>();

            fn append(&self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }

            fn take(bytes: &mut &[u8]) -> Option<Self> {
                let (own, rest) = bytes.split_first_chunk()?;
                *bytes = rest;
                Some(Self::from_le_bytes(*own))
            }
        }
    )*};
}

fixed_integer!(u8, u16, u32, u64);

impl Fixed for bool {
    const BYTES: usize = 1;

    fn append(&self, bytes: &mut Vec<u8>) {
        bytes.push(u8::from(*self));
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        match u8::take(bytes)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

/// Declares a struct and its fixed form. A field's place is its place in the declaration: to move
/// one is a new state schema.
///
/// ```
/// use cellar_policy_sdk::{Fixed, fixed_struct};
///
/// fixed_struct! {
///     #[derive(Debug, PartialEq)]
///     pub struct State {
///         pub day: u16,
///         pub spent: u64,
///     }
/// }
///
/// let state = State { day: 3, spent: 700 };
/// assert_eq!(State::BYTES, 10);
/// assert_eq!(state.to_bytes(), [3, 0, 0xbc, 0x02, 0, 0, 0, 0, 0, 0]);
/// assert_eq!(State::from_bytes(&state.to_bytes()), Some(state));
/// assert_eq!(State::from_bytes(&[1, 2, 3]), None);
/// ```
#[macro_export]
macro_rules! fixed_struct {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident {
            $($(#[$field_attribute:meta])* $field_visibility:vis $field:ident: $type:ty,)*
        }
    ) => {
        $(#[$attribute])*
        $visibility struct $name {
            $($(#[$field_attribute])* $field_visibility $field: $type,)*
        }

        impl $crate::Fixed for $name {
            const BYTES: usize = 0 $(+ <$type as $crate::Fixed>::BYTES)*;

            fn append(&self, bytes: &mut Vec<u8>) {
                $($crate::Fixed::append(&self.$field, bytes);)*
            }

            fn take(bytes: &mut &[u8]) -> Option<Self> {
                // Fields are evaluated in the order written, which is the order of their bytes.
                Some(Self { $($field: $crate::Fixed::take(bytes)?,)* })
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fixed_struct! {
        #[derive(Debug, PartialEq)]
        struct Pair {
            first: u32,
            second: bool,
        }
    }

    #[test]
    fn a_struct_reads_back_and_is_as_long_as_its_fields() {
        let pair = Pair { first: 7, second: true };
        assert_eq!(pair.to_bytes(), [7, 0, 0, 0, 1]);
        assert_eq!(Pair::BYTES, 5);
        assert_eq!(Pair::from_bytes(&pair.to_bytes()), Some(pair));
    }

    #[test]
    fn too_few_too_many_and_meaningless_bytes_are_none() {
        for bad in [&[7, 0, 0, 0][..], &[7, 0, 0, 0, 1, 0], &[7, 0, 0, 0, 2], &[]] {
            assert_eq!(Pair::from_bytes(bad), None, "{bad:?}");
        }
    }
}
