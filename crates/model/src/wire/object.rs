//! Members that are objects and nothing else: what is derived would read their members from a list as well.

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// For `deserialize_with`.
pub(super) fn object<'de, T: DeserializeOwned, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_map(ObjectVisitor(PhantomData))
}

/// For `deserialize_with`: a list of them.
pub(super) fn objects<'de, T: DeserializeOwned, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let objects = Vec::<Object<T>>::deserialize(deserializer)?;
    Ok(objects.into_iter().map(|Object(one)| one).collect())
}

struct Object<T>(T);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        object(deserializer).map(Self)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: DeserializeOwned> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members))
    }
}

#[cfg(test)]
mod tests {
    use crate::wire::{BatchBody, LogInBody};

    #[test]
    fn a_list_is_no_object() {
        let device = |text: &str| serde_json::from_str::<LogInBody>(&format!(r#"{{"device":{text}}}"#)).is_ok();
        assert!(device(r#"{"name":"laptop"}"#));
        assert!(!device(r#"["laptop","linux"]"#));
        assert!(serde_json::from_str::<BatchBody>(r#"{"checks":[{"cost":1}]}"#).is_ok());
        assert!(serde_json::from_str::<BatchBody>(r#"{"checks":[["u",1]]}"#).is_err());
    }
}
