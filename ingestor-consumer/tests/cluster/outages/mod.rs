//! Servers that die, sleep, answer late or not at all, three of each kind: nothing that was acknowledged is lost, nothing is
//! counted twice, and what stops goes on by itself. `scripts/test-cluster outages` starts them; without it these tests fail.

mod folding;
mod producing;
mod servers;
