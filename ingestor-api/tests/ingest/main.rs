//! The front door from outside: a true server on a socket, the generated client, and a log that does as it is told.

mod fixture;
mod sending;
