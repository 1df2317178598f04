//! RabbitMQ and Redis Streams as sources, against real servers: brokers and the server killed mid-batch, redelivery, poison,
//! a consumer that dies between the append and the acknowledgement. Every total is compared with the test's own record.
//!
//! `make test-cluster` starts the servers first; a test whose server is not there fails.

#[expect(dead_code, reason = "the harness serves other tests, too")]
#[path = "../harness/mod.rs"]
mod harness;

mod broker;
mod proxy;
mod rabbitmq;
mod record;
mod redis_streams;
