//! A set of a file's blocks.

/// Numbers of blocks, a bit for each up to the greatest: at most half a mebibyte for the largest
/// segment, and nothing while it is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Blocks {
    words: Vec<u64>,
}

impl Blocks {
    /// Puts a block in, if it is not there yet.
    pub(crate) fn insert(&mut self, block: u64) {
        let (word, bit) = ((block / 64) as usize, block % 64);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << bit;
    }

    /// Puts all in that `others` has.
    pub(crate) fn insert_all(&mut self, others: &Self) {
        if self.words.len() < others.words.len() {
            self.words.resize(others.words.len(), 0);
        }
        for (word, &other) in self.words.iter_mut().zip(&others.words) {
            *word |= other;
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// The greatest.
    pub(crate) fn last(&self) -> Option<u64> {
        let word = self.words.iter().rposition(|&word| word != 0)?;
        Some(word as u64 * 64 + u64::from(self.words[word].ilog2()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_block_counts_once() {
        let mut blocks = Blocks::default();
        assert_eq!((blocks.count(), blocks.last()), (0, None));
        for (count, block) in [(1, 70), (1, 70), (2, 0), (3, 63), (4, 64), (5, 1000), (5, 64)] {
            blocks.insert(block);
            assert_eq!(blocks.count(), count, "with {block}");
        }
        assert_eq!(blocks.last(), Some(1000));
        let mut others = Blocks::default();
        [0, 5, 2000].into_iter().for_each(|block| others.insert(block));
        let mut both = blocks.clone();
        both.insert_all(&others);
        assert_eq!((both.count(), both.last()), (7, Some(2000)));
        others.insert_all(&blocks);
        assert_eq!(others, both);
    }
}
