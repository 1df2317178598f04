//! The contract of Pulso: `pulso.v1` as messages and services, and the walk over raw pulse bytes.
//!
//! The hot path does not build [`v1::Pulse`] structs: [`walk`] reads a request's bytes and hands over borrowed fields,
//! so that the ingestor can check a pulse and forward its bytes as they are, and the fold can read them again. [`plain`] is
//! the short cut for pulses as nearly all clients write them. [`foreign`] keeps what another source sent that is no pulse,
//! [`usage`] is what goes from the consumer to pricing.

pub mod foreign;
pub mod plain;
pub mod usage;
pub mod walk;

/// The generated messages, client and server of package `pulso.v1`.
#[expect(clippy::allow_attributes, clippy::too_many_lines, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("pulso.v1");
}

/// The descriptor set of `pulso.v1` with its imports and comments, for the reflection service.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("pulso_v1_descriptor");
