//! What an author tests a policy with, natively and in milliseconds: [`Sim`] is one user of it, [`property_tests!`]
//! and [`properties`] hold it to what callers rely on, over generated histories.
//!
//! None of it is in the component: the module is there on native targets only.
//!
//! ```
//! use cellar_policy_sdk::example::Rule;
//! use cellar_policy_sdk::testing::{Sim, hours};
//!
//! let mut user = Sim::<Rule>::new(r#"{"limit": 10}"#);
//! user.at("2024-02-29T22:00:00Z").consume(7).admitted().remaining(3);
//! user.consume(4).denied().retry_after(hours(2));
//! user.after(hours(2)).consume(4).admitted().remaining(6);
//! ```
//!
//! `cellctl policy test` runs an author's tests, and then holds the component to the native code on the histories
//! that [`property_tests!`] draws. `cellctl policy certify` tests the component itself, with twelve properties.

mod answer;
mod comparison;
mod draw;
mod moment;
mod properties;
mod settings;
mod sim;
mod truth;

pub use answer::{Answer, Held};
pub use comparison::{COMPARISON_FOLDER, write_comparison};
pub use moment::{Moment, days, hours, minutes, seconds};
pub use properties::{Property, properties};
pub use serde_json::{Value, json};
pub use settings::IntoSettings;
pub use sim::Sim;
pub use truth::{Lie, truth};

/// One test a property, for a policy under settings: `property_tests!(Rule, r#"{"limit": 10}"#);` in a module of
/// tests. What the policy waives ([`Policy::WAIVES`](crate::Policy::WAIVES)) is not tested.
///
/// ```
/// # use cellar_policy_sdk::example::Rule;
/// # fn main() {}
/// mod rule {
///     use cellar_policy_sdk::example::Rule;
///     cellar_policy_sdk::property_tests!(Rule, r#"{"limit": 10}"#);
/// }
/// ```
#[macro_export]
macro_rules! property_tests {
    ($policy:ty, $settings:expr) => {
        $crate::property_tests!(@each $policy, $settings,
            a_denial_changes_nothing ADenialChangesNothing,
            a_question_changes_nothing AQuestionChangesNothing,
            remaining_is_exact RemainingIsExact,
            retry_after_is_honest RetryAfterIsHonest,
            reset_after_is_honest ResetAfterIsHonest,
            a_settle_at_what_was_held_changes_nothing ASettleAtWhatWasHeldChangesNothing,
            a_release_at_once_gives_all_back AReleaseAtOnceGivesAllBack,
            states_and_parameters_read_back StatesAndParametersReadBack,
            amounts_of_any_size_are_answered AmountsOfAnySizeAreAnswered,
        );

        /// For `cellctl policy test`, which names the file: what the component is held to. Without it, nothing.
        #[test]
        fn told_to_the_component() {
            $crate::testing::write_comparison::<$policy>($settings);
        }
    };
    (@each $policy:ty, $settings:expr, $($test:ident $property:ident,)*) => {$(
        #[test]
        fn $test() {
            $crate::testing::Property::$property.check::<$policy>($settings);
        }
    )*};
}
