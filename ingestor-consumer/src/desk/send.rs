//! Sending dead letters again: ordinary pulses in ordinary records, each with the letter that it was beside it, so that
//! the fold marks the letter from the very record that carries the pulse. There is no moment in between.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use pulso_domain::position::{Position, Rank};
use pulso_platform::log::{AppendReply, Appended, LogError, RECORD_BYTES_MAX, RECORD_PULSES_MAX};
use pulso_platform::store::keys::ActionPlace;
use pulso_platform::store::{Flush, Store};
use pulso_proto::v1;
use pulso_proto::v1::dead_letter_action::Kind;

use super::case::Done;
use super::judge::Accepted;
use super::{Author, Desk};
use crate::fold::actions::{action_cell, origin_of};
use crate::fold::record::ACTIONS_FORMAT;

/// The field of a batch that holds its pulses.
const PULSES_FIELD: u32 = 4;
/// Room for the rest of a record: its version and time.
const HEADER_BYTES: usize = 64;

/// What became of one letter that was sent.
#[derive(Debug)]
pub enum Sent {
    /// It is durable, at this place.
    At(ActionPlace),
    /// It is surely not in the log.
    NotStored(String),
    /// It may be in the log; sending it again is safe.
    Unknown(String),
}

/// A record that is being filled.
#[derive(Default)]
struct Parcel {
    /// The places of its letters in the request.
    places: Vec<usize>,
    pulses: BytesMut,
    replays: Vec<v1::DeadLetterAction>,
    replay_bytes: usize,
}

impl Desk<'_> {
    /// Sends letters again and answers what became of each, in their order, once the log has confirmed. Blocks.
    #[must_use]
    pub fn send(&self, letters: &[((u32, Position), Accepted)], author: &Author) -> Vec<Sent> {
        let mut parcels: BTreeMap<u32, Parcel> = BTreeMap::new();
        let mut on_their_way = Vec::new();
        for (place, (letter, accepted)) in letters.iter().enumerate() {
            let replay = self.replay(*letter, author);
            let parcel = parcels.entry(accepted.partition).or_default();
            if !parcel.has_room(accepted, &replay) {
                on_their_way.push(self.dispatch(accepted.partition, std::mem::take(parcel)));
            }
            parcel.put(place, &accepted.bytes, replay);
        }
        on_their_way.extend(parcels.into_iter().map(|(partition, parcel)| self.dispatch(partition, parcel)));
        let mut sent: Vec<(usize, Sent)> = Vec::with_capacity(letters.len());
        for one in on_their_way {
            sent.extend(self.arrive(one));
        }
        sent.sort_by_key(|(place, _)| *place);
        sent.into_iter().map(|(_, sent)| sent).collect()
    }

    fn replay(&self, letter: (u32, Position), author: &Author) -> v1::DeadLetterAction {
        v1::DeadLetterAction {
            kind: Kind::Replayed.into(),
            letter: Some(origin_of(letter)),
            actor: author.actor.clone(),
            at_nanos: self.now_nanos,
            note: author.note.clone(),
            pulse: Bytes::new(),
        }
    }

    fn dispatch(&self, partition: u32, parcel: Parcel) -> OnItsWay {
        let now = self.now();
        let received_at = prost_types::Timestamp { seconds: now.seconds(), nanos: now.nanos().cast_signed() };
        let header = v1::PulseBatch {
            format_version: ACTIONS_FORMAT,
            received_at: Some(received_at),
            ..Default::default()
        };
        let beside = v1::PulseBatch { replays: parcel.replays.clone(), ..Default::default() };
        // Messages that follow each other are one message.
        let value =
            vec![header.encode_to_vec().into(), parcel.pulses.freeze(), beside.encode_to_vec().into()];
        let reply = self.log.append(partition, value);
        OnItsWay { reply, places: parcel.places, replays: parcel.replays, partition }
    }

    fn arrive(&self, one: OnItsWay) -> Vec<(usize, Sent)> {
        let closed = |_| Err(LogError::Unknown("the log was closed".to_owned()));
        let partition = one.partition;
        let outcome = one.reply.blocking_recv().unwrap_or_else(closed);
        let appended = match outcome {
            Ok(appended) => appended,
            Err(error) => {
                let sent = |text: String| match error {
                    LogError::Unavailable(_) | LogError::TooLarge { .. } | LogError::NoPartition(_) => {
                        Sent::NotStored(text)
                    }
                    _ => Sent::Unknown(text),
                };
                return one.places.into_iter().map(|place| (place, sent(error.to_string()))).collect();
            }
        };
        let at = |index| ActionPlace { partition, position: Position::new(rank(&appended), index) };
        let done: Vec<Done> = one
            .replays
            .into_iter()
            .zip(0..)
            .map(|(action, index)| Done { action, place: at(index) })
            .collect();
        mark(self.store, &done);
        one.places.into_iter().zip(done).map(|(place, done)| (place, Sent::At(done.place))).collect()
    }
}

struct OnItsWay {
    partition: u32,
    places: Vec<usize>,
    replays: Vec<v1::DeadLetterAction>,
    reply: AppendReply,
}

impl Parcel {
    fn has_room(&self, accepted: &Accepted, replay: &v1::DeadLetterAction) -> bool {
        let more = accepted.bytes.len() + replay.encoded_len() + 16;
        let bytes = HEADER_BYTES + self.pulses.len() + self.replay_bytes + more;
        self.places.is_empty() || (bytes <= RECORD_BYTES_MAX && self.places.len() < RECORD_PULSES_MAX)
    }

    fn put(&mut self, place: usize, pulse: &[u8], replay: v1::DeadLetterAction) {
        self.places.push(place);
        encode_key(PULSES_FIELD, WireType::LengthDelimited, &mut self.pulses);
        encode_varint(pulse.len() as u64, &mut self.pulses);
        self.pulses.put_slice(pulse);
        self.replay_bytes += replay.encoded_len() + 8;
        self.replays.push(replay);
    }
}

/// The rank of a record that was appended.
pub(super) fn rank(appended: &Appended) -> Rank {
    Rank::new(appended.generation, appended.offset).unwrap_or(Rank::ZERO)
}

/// Writes the cells of actions that stand in the log, so that readers see them at once. The fold writes the same ones
/// when it comes by: a store that cannot take them now costs no more than that time.
pub(super) fn mark(store: &dyn Store, done: &[Done]) {
    let cells = done.iter().filter_map(|done| action_cell(&done.action, done.place)).collect();
    if let Err(error) = store.flush(Flush { cells, ..Flush::default() }) {
        tracing::warn!(%error, "what was done about dead letters is seen once it is folded");
    }
}
