//! The text of an answer, kept once however many pages are found in it.

use std::{
    fmt, mem,
    ops::Range,
    str,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::error::PortalError;

/// Address space for an answer; memory is taken by the page, as the answer arrives. An
/// answer never moves while it grows, and glibc gives a block above 32 MiB back to the
/// system when it is freed, where smaller ones of this size would pile up in its heaps.
const SPACE: usize = 33 << 20;

/// From this length on an answer is large: it takes a turn, and its buffer is kept for
/// the next one.
const LARGE: usize = 1 << 20;

/// Large answers that are in memory as text at the same time, whatever their number on
/// the way: the others wait in the network for the moment that decoding takes.
const TURNS: usize = 1;

/// A turn is waited for no longer than this, so that answers that wait for one another in
/// any other way cannot wait for ever.
const TURN_WITHIN: Duration = Duration::from_secs(3);

/// Buffers for answers. Large answers take turns in the same memory, since fresh pages
/// cost the system more than filling them; the first small answer after that gives it
/// back, so an idle process holds none.
#[derive(Clone)]
pub(super) struct Buffers(Arc<Pool>);

struct Pool {
    spare: Mutex<Vec<Vec<u8>>>,
    turns: Arc<Semaphore>,
}

impl Default for Buffers {
    fn default() -> Self {
        let turns = Arc::new(Semaphore::new(TURNS));
        Self(Arc::new(Pool { spare: Mutex::default(), turns }))
    }
}

impl Buffers {
    /// An empty buffer.
    pub(super) fn take(&self) -> Buffer {
        Buffer { bytes: Vec::new(), home: self.clone(), large: false, turn: None }
    }

    fn spare(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        // Buffers are whole whatever happened beside them.
        self.0.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer in use.
#[derive(Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    home: Buffers,
    /// Whether it has asked for a turn, and the turn if it got one.
    large: bool,
    turn: Option<OwnedSemaphorePermit>,
}

impl Buffer {
    /// Appends what has come; a large answer waits for its turn first.
    pub(super) async fn extend(&mut self, chunk: &[u8]) {
        if !self.large && self.bytes.len() + chunk.len() >= LARGE {
            self.large = true;
            let turn = Arc::clone(&self.home.0.turns).acquire_owned();
            self.turn = timeout(TURN_WITHIN, turn).await.ok().and_then(Result::ok);
            if self.turn.is_some() {
                let space = self.home.spare().pop();
                let mut space = space.unwrap_or_else(|| Vec::with_capacity(SPACE));
                space.extend_from_slice(&self.bytes);
                self.bytes = space;
            }
        }
        self.bytes.extend_from_slice(chunk);
    }

    /// The number of bytes in it.
    pub(super) const fn len(&self) -> usize {
        self.bytes.len()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.turn.is_some() {
            let mut bytes = mem::take(&mut self.bytes);
            bytes.clear();
            self.home.spare().push(bytes);
        } else if self.home.0.turns.available_permits() == TURNS {
            self.home.spare().clear();
        }
    }
}

/// An answer's text; clones share it.
#[derive(Clone)]
pub(super) struct Body(Arc<Filled>);

/// Text in a buffer.
struct Filled {
    text: String,
    home: Buffers,
    turn: Option<OwnedSemaphorePermit>,
}

impl Drop for Filled {
    fn drop(&mut self) {
        let bytes = mem::take(&mut self.text).into_bytes();
        drop(Buffer { bytes, home: self.home.clone(), large: true, turn: self.turn.take() });
    }
}

impl Body {
    /// Takes what came over the wire, without copying it.
    ///
    /// # Errors
    /// What can be told without reading it: that it is empty, no JSON object, or no text.
    pub(super) fn new(method: &str, status: u16, mut from: Buffer) -> Result<Self, PortalError> {
        let method = || method.to_owned();
        match json_in(&from.bytes).first() {
            None => return Err(PortalError::EmptyBody { method: method(), status }),
            Some(b'{') => {}
            Some(_) => return Err(PortalError::Gateway { method: method(), status }),
        }
        let (home, turn) = (from.home.clone(), from.turn.take());
        match String::from_utf8(mem::take(&mut from.bytes)) {
            Ok(text) => Ok(Self(Arc::new(Filled { text, home, turn }))),
            // Cut inside of a character, or another encoding altogether.
            Err(error) => Err(match error.utf8_error().error_len() {
                None => PortalError::CutBody { method: method(), bytes: error.as_bytes().len() },
                Some(_) => PortalError::Garbled { method: method() },
            }),
        }
    }

    /// The JSON text, without what PHP may have printed around it.
    pub(super) fn json(&self) -> &str {
        str::from_utf8(json_in(self.0.text.as_bytes())).unwrap_or_default()
    }

    /// The length on the wire, after decompression.
    pub(super) fn len(&self) -> usize {
        self.0.text.len()
    }

    /// Where a part stands that was found in this text; an empty range for any other.
    pub(super) fn place_of(&self, part: &str) -> Range<usize> {
        let start = part.as_ptr().addr().wrapping_sub(self.0.text.as_ptr().addr());
        let place = start..start.saturating_add(part.len());
        if place.end <= self.len() { place } else { 0..0 }
    }

    /// The part at a place.
    pub(super) fn part(&self, place: Range<usize>) -> &str {
        self.0.text.get(place).unwrap_or_default()
    }
}

/// Personal data has no place in a log.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes)", self.len())
    }
}

/// Leaves out the byte order mark and white space.
fn json_in(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii()
}

#[cfg(any(test, feature = "fuzzing"))]
impl<T: Into<Vec<u8>>> From<T> for Buffer {
    fn from(bytes: T) -> Self {
        Self { bytes: bytes.into(), home: Buffers::default(), large: false, turn: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn filled(buffers: &Buffers, length: usize) -> Buffer {
        let mut buffer = buffers.take();
        buffer.extend(b"{").await;
        buffer.extend(&vec![b' '; length]).await;
        buffer
    }

    #[tokio::test]
    async fn large_answers_take_turns_in_one_buffer_and_a_small_one_gives_it_back() {
        let buffers = Buffers::default();
        let answer = async |length: usize| {
            let buffer = filled(&buffers, length).await;
            let place = buffer.bytes.as_ptr().addr();
            drop(Body::new("m", 200, buffer).unwrap());
            (place, buffers.spare().len())
        };
        let (first, kept) = answer(LARGE).await;
        assert_eq!(kept, 1);
        assert_eq!(answer(LARGE).await, (first, 1));
        assert_eq!(answer(10).await.1, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_large_answers_than_turns_are_in_memory_and_none_waits_for_ever() {
        let buffers = Buffers::default();
        let began = tokio::time::Instant::now();
        let first = Body::new("m", 200, filled(&buffers, LARGE).await).unwrap();
        let _small = filled(&buffers, 10).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        let _patient = filled(&buffers, LARGE).await;
        assert_eq!(began.elapsed(), TURN_WITHIN);
        drop(first.clone());
        drop(first);
        let _third = filled(&buffers, LARGE).await;
        assert_eq!(began.elapsed(), TURN_WITHIN);
    }

    #[test]
    fn parts_are_found_again_without_a_copy() {
        let body = Body::new("m", 200, "\u{feff} {\"a\":\"д\"}\n".into()).unwrap();
        assert_eq!(body.json(), "{\"a\":\"д\"}");
        let part = &body.json()[5..9];
        assert_eq!(body.clone().part(body.place_of(part)), "\"д\"");
        assert_eq!(body.place_of("elsewhere"), 0..0);
    }

    #[test]
    fn text_cut_inside_of_a_character_is_cut_and_other_bytes_are_garbled() {
        let new = |bytes: &[u8]| Body::new("m", 200, bytes.into()).unwrap_err();
        assert!(matches!(new(b"{\"a\":\"\xd0"), PortalError::CutBody { bytes: 7, .. }));
        assert!(matches!(new(b"{\"a\":\"\xff\"}"), PortalError::Garbled { .. }));
    }
}
