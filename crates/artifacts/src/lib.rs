//! Policies as they are shipped: signed by an author's key, believed by whom an operator trusts, packed as an image
//! that any registry keeps.
//!
//! It reads and writes files and speaks to nobody: catalogs and registries are others' to ask.

mod bundle;
mod certificate;
mod files;
mod image;
mod layout;
mod message;
mod refusal;
mod signing_key;
mod trust;
mod trust_file;

pub use bundle::{Bundle, BundleError};
pub use certificate::{Certificate, CertificateError, certificate_of};
pub use files::write_whole;
pub use image::{
    Blob, Descriptor, IMAGE_MANIFEST, Image, ImageError, MANIFEST_BYTES_MAX, Parts, SIGNATURE_BYTES_MAX, pack,
};
pub use layout::{LayoutError, read_layout, write_layout};
pub use refusal::Refusal;
pub use signing_key::{SigningKey, SigningKeyError};
pub use trust::{Pattern, Trust, TrustError, TrustedKey};
pub use trust_file::{trusted, untrusted};
