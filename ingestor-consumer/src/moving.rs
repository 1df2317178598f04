//! Moving records behind a seal: each is appended again to the newest generation, and is durable there before the progress
//! passes it. What a crash moves twice is counted once, by its ids.
//!
//! Not to the one that followed the seal: that may be sealed, too, or lost and given up, so that nobody reads it any more.

use std::sync::Arc;

use pulso_domain::position::partition_generation;
use pulso_platform::log::{AppendReply, Log, LogError};

use crate::fold::halt::Stop;
use crate::fold::moved::{Stray, StrayOutlet};

/// The way into the next generation of this log.
pub(crate) fn outlet(log: Arc<dyn Log>) -> Arc<StrayOutlet> {
    Arc::new(move |strays: &[Stray]| move_on(&*log, strays))
}

fn move_on(log: &dyn Log, strays: &[Stray]) -> Result<(), Stop> {
    let newest = log.layout();
    let mut replies: Vec<AppendReply> = Vec::new();
    for stray in strays {
        let next = partition_generation(stray.partition) + 1;
        if newest.generation < next {
            return Err(Stop::Retry(format!("generation {next} of the log is not known yet")));
        }
        for (partition, value) in stray.parcels(&newest) {
            replies.push(log.append(partition, vec![value]));
        }
    }
    for reply in replies {
        let answer = reply.blocking_recv();
        answer.unwrap_or_else(|_| Err(LogError::Unknown("the log was closed".to_owned())))?;
    }
    Ok(())
}
