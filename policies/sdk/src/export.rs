//! How a policy becomes a component's exports. Natively there is nothing here.

/// The Rust form of `wit/policy.wit`.
#[cfg(target_arch = "wasm32")]
#[allow(unsafe_code, missing_docs, unreachable_pub, reason = "generated; the component's edge is raw memory")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "quota-policy",
        pub_export_macro: true,
        default_bindings_module: "cellar_policy_sdk::bindings",
        export_macro_name: "export_world",
    });
}

/// Exports a [`Policy`](crate::Policy) as the component of a crate of type `cdylib`: once, at the end of its
/// `lib.rs`.
///
/// ```
/// # use cellar_policy_sdk::example::Rule;
/// cellar_policy_sdk::export_policy!(Rule);
/// ```
#[macro_export]
macro_rules! export_policy {
    ($policy:ty) => {
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code, reason = "the component's edge is raw memory; the code is generated")]
        const _: () = {
            use $crate::bindings::exports::cellar::policy::{policy as edge, types};

            struct Component;

            impl edge::Guest for Component {
                fn describe() -> String {
                    $crate::describe::<$policy>()
                }

                fn configure(settings: String) -> Result<Vec<u8>, Vec<types::Problem>> {
                    let problem = |p: $crate::Problem| types::Problem { pointer: p.pointer, message: p.message };
                    $crate::configure::<$policy>(&settings)
                        .map_err(|problems| problems.into_iter().map(problem).collect())
                }

                fn decide(parameters: Vec<u8>, state: Vec<u8>, request: types::Request) -> types::Outcome {
                    $crate::decide::<$policy>(&parameters, &state, &request.into()).into()
                }

                fn migrate(from_schema: u32, parameters: Vec<u8>, state: Vec<u8>) -> Result<Vec<u8>, String> {
                    $crate::migrate::<$policy>(from_schema, &parameters, &state)
                }
            }

    $crate::bindings::export_world!(Component with_types_in $crate::bindings);
        };
    };
}

#[cfg(target_arch = "wasm32")]
mod convert {
    use super::bindings::exports::cellar::policy::types;
    use crate::{Attribute, Operation, Outcome, Request};

    impl From<types::Request> for Request {
        fn from(request: types::Request) -> Self {
            let operation = match request.operation {
                types::Operation::Consume => Operation::Consume,
                types::Operation::Reserve => Operation::Reserve,
                types::Operation::Settle => Operation::Settle,
                types::Operation::Peek => Operation::Peek,
            };
            let attribute = |a: types::Attribute| Attribute { name: a.name, value: a.value };
            Self {
                operation,
                now_us: request.now,
                cost: request.cost,
                held: request.held,
                held_at_us: request.held_at,
                attributes: request.attributes.into_iter().map(attribute).collect(),
            }
        }
    }

    impl From<Outcome<Vec<u8>>> for types::Outcome {
        fn from(outcome: Outcome<Vec<u8>>) -> Self {
            Self {
                admitted: outcome.admitted,
                state: outcome.state,
                limit: outcome.limit,
                remaining: outcome.remaining,
                retry_after: outcome.retry_after_us,
                reset_after: outcome.reset_after_us,
                note: outcome.note,
            }
        }
    }
}
