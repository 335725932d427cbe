//! Answers that are kept short because longer ones were too heavy for the portal.

/// So many answers of a shortened length must come before a longer one is tried: each
/// one that is too heavy again may cost a whole time-out.
const GROW_AFTER: u32 = 8;

/// How long answers may be since a longer one was too heavy for the portal.
#[derive(Clone, Copy)]
pub(super) struct Shortened {
    pages: usize,
    /// How many of that length have come.
    answers: u32,
}

impl Shortened {
    /// An answer was too heavy; so many pages are asked for from now on.
    pub(super) const fn to(pages: usize) -> Self {
        Self { pages, answers: 0 }
    }

    /// The pages that one answer may have.
    pub(super) const fn pages(self) -> usize {
        self.pages
    }

    /// Takes note of an answer that came; gives what holds from now on. An answer may have
    /// `most` pages where nothing has shortened it.
    pub(super) fn carried(mut self, pages: usize, most: usize) -> Option<Self> {
        if pages < self.pages {
            return Some(self);
        }
        self.answers += 1;
        if self.answers >= GROW_AFTER {
            self = Self { pages: self.pages + self.pages.div_ceil(2), answers: 0 };
        }
        (self.pages < most).then_some(self)
    }
}
