//! What the OpenAPI document says of single values: the same bounds as the types and the checks enforce.

use crate::{ATTRIBUTES_MAX, Amount, COST_UNITS_MAX, Cost, Micros, RegionName, SessionId, SlotName, TierName, UserId};
use std::borrow::Cow;
use utoipa::openapi::schema::{AdditionalProperties, AnyOfBuilder, SchemaFormat};
use utoipa::openapi::{KnownFormat, Object, ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

macro_rules! described {
    ($($type:ty = $name:literal, $schema:expr;)*) => {$(
        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                RefOr::T(Schema::from($schema))
            }
        }

        impl ToSchema for $type {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed($name)
            }
        }
    )*};
}

described! {
    UserId = "UserId", text("A user's id: drawn at sign-up, or the application's own", "^[A-Za-z0-9_-]+$", 1, 64);
    SessionId = "SessionId", text("Names a session in lists and for revocation; no secret", "^[A-Za-z0-9]+$", 26, 26);
    TierName = "TierName", text("A tier of the catalog, `pro`", "^[a-z0-9_-]+$", 1, 32);
    SlotName = "SlotName", text("The place of a policy in a tier, `per-minute`", "^[a-z0-9_-]+$", 1, 32);
    RegionName = "RegionName", text("A region of the topology, `eu`", "^[a-z0-9_-]+$", 1, 16);
    Amount = "Amount", whole("An amount of some unit; zero only asks", Amount::MAX.get());
    Cost = "Cost", AnyOfBuilder::new()
        .description(Some("A number of tokens, and one request with it; or a map from unit to amount, `requests` being 1 unless it says otherwise"))
        .item(whole("Tokens", Amount::MAX.get()))
        .item(units())
        .build();
    Time = "Time", formatted("RFC 3339 in UTC", KnownFormat::DateTime);
    Day = "Day", formatted("A day in UTC, `2023-11-14`", KnownFormat::Date);
    PolicyTime = "PolicyTime", whole("Policy time in microseconds since 1970, where the stack's clock is virtual; elsewhere 422", Micros::MAX.0);
    ChargeText = "ChargeId", text("Names a charge in settle and refund", "^c[0-9]+-[0-9]+-[0-9]+-[0-9]+$", 8, 76);
    EmailText = "Email", text(
        "One `@` with something on both sides, no white space or control character inside, at most 254 bytes. \
         Addresses that differ in case alone are one",
        r"^[^@\s\u0000-\u001f\u007f-\u009f]+@[^@\s\u0000-\u001f\u007f-\u009f]+$", 3, 254);
    PersonName = "PersonName", text("As people write theirs", r"^[^\u0000-\u001f\u007f-\u009f]+$", 1, 200);
    PasswordText = "Password", bounded("At least 8 characters and at most 1,024 bytes", 8, 1_024);
    TokenText = "SessionToken", bounded("Opaque; shown once", 1, 4_096);
    UnitName = "Unit", text("What a policy meters: `requests`, `tokens`, any other name", "^[a-z0-9_-]+$", 1, 32);
    DeviceName = "DeviceName", text("No control characters, at most 100 bytes", r"^[^\u0000-\u001f\u007f-\u009f]*$", 0, 100);
    DevicePlatform = "DevicePlatform", text("No control characters, at most 40 bytes", r"^[^\u0000-\u001f\u007f-\u009f]*$", 0, 40);
    Attributes = "Attributes", {
        let value = bounded("At most 64 bytes", 0, 64);
        let mut attributes = map("What policies may weigh by", value, ATTRIBUTES_MAX);
        attributes.property_names = Some(Box::new(Schema::from(bounded("At most 64 bytes", 0, 64))));
        attributes
    };
    GrantedAmount = "GrantedAmount", {
        let mut amount = whole("What is given", Amount::MAX.get());
        amount.minimum = Some(1_u64.into());
        amount
    };
    Preferences = "Preferences", {
        let key = bounded("1 to 128 bytes", 1, 128);
        let mut all = ObjectBuilder::new()
            .description(Some("At most 256 keys and 64 KiB, no text with the character U+0000"))
            .additional_properties(Some(AdditionalProperties::FreeForm(true)))
            .max_properties(Some(256))
            .build();
        all.property_names = Some(Box::new(Schema::from(key)));
        all
    };
    Overshoot = "Overshoot", {
        let mut over = map("By unit", whole("Above what was left", u64::from(u32::MAX) << 20), COST_UNITS_MAX);
        over.property_names = Some(Box::new(Schema::from(text("A unit", "^[a-z0-9_-]+$", 1, 32))));
        over
    };
    Charges = "Charges", ObjectBuilder::new()
        .description(Some("By unit, less what was given back"))
        .additional_properties(Some(AdditionalProperties::RefOr(RefOr::T(Schema::from(
            ObjectBuilder::new().schema_type(Type::Integer).build(),
        )))))
        .build();
}

/// A time of a body.
pub struct Time;
/// A day of a body.
pub struct Day;
/// `at_us` of a body.
pub struct PolicyTime;
/// `charge_id` of a body.
pub struct ChargeText;
/// An e-mail address of a body.
pub struct EmailText;
/// A person's name of a body.
pub struct PersonName;
/// A password of a body.
pub struct PasswordText;
/// A session's token of a body.
pub struct TokenText;
/// A unit's name of an answer.
pub struct UnitName;
/// What a device is called.
pub struct DeviceName;
/// What a device runs.
pub struct DevicePlatform;
/// The attributes of a check.
pub struct Attributes;
/// The amount of a grant.
pub struct GrantedAmount;
/// A user's preferences, and a merge patch of them.
pub struct Preferences;
/// What a settle charged above what was left.
pub struct Overshoot;
/// What was charged, by unit.
pub struct Charges;

fn text(description: &str, pattern: &str, min: usize, max: usize) -> Object {
    let mut text = bounded(description, min, max);
    text.pattern = Some(pattern.to_owned());
    text
}

fn bounded(description: &str, min: usize, max: usize) -> Object {
    let text = ObjectBuilder::new().schema_type(Type::String).description(Some(description));
    text.min_length(Some(min)).max_length(Some(max)).build()
}

fn formatted(description: &str, format: KnownFormat) -> Object {
    let text = ObjectBuilder::new().schema_type(Type::String).description(Some(description));
    text.format(Some(SchemaFormat::KnownFormat(format))).build()
}

fn whole(description: &str, max: u64) -> Object {
    let number = ObjectBuilder::new().schema_type(Type::Integer).description(Some(description));
    number.minimum(Some(0_u64)).maximum(Some(max)).build()
}

fn units() -> Object {
    let mut units = map("By unit", whole("Of this unit", Amount::MAX.get()), COST_UNITS_MAX);
    units.property_names = Some(Box::new(Schema::from(text("A unit", "^[a-z0-9_-]+$", 1, 32))));
    units
}

fn map(description: &str, value: Object, max: usize) -> Object {
    let value = AdditionalProperties::RefOr(RefOr::T(Schema::from(value)));
    let map = ObjectBuilder::new().description(Some(description)).additional_properties(Some(value));
    map.max_properties(Some(max)).build()
}
