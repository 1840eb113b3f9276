//! Topics: their names, their identities, and which shard has which partition.

use std::collections::BTreeMap;
use std::fmt;

use crate::limits::TOPIC_NAME_BYTES;

/// The identity of a topic: random, never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub u128);

impl fmt::Debug for TopicId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

/// The name of a topic, checked by Kafka's rules: 1 to 249 of `a-z A-Z 0-9 . _ -`, and neither `.`
/// nor `..`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(String);

/// Why a name is not one a topic can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicNameError {
    name: String,
}

impl fmt::Display for TopicNameError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: String = self.name.chars().take(80).collect();
        write!(
            formatter,
            "{shown:?} cannot be a topic's name; use 1 to {TOPIC_NAME_BYTES} of the characters a-z \
             A-Z 0-9 . _ - and neither \".\" nor \"..\""
        )
    }
}

impl std::error::Error for TopicNameError {}

impl TopicName {
    /// Checks a name.
    ///
    /// # Errors
    /// If it is not one a topic can have.
    pub fn new(name: &str) -> Result<Self, TopicNameError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let good = (1..=TOPIC_NAME_BYTES).contains(&name.len())
            && name.bytes().all(allowed)
            && !matches!(name, "." | "..");
        if good { Ok(Self(name.to_owned())) } else { Err(TopicNameError { name: name.to_owned() }) }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A topic as every shard knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its identity.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// How many partitions it has; at least one.
    pub partitions: u32,
    /// The shard of partition 0. The others follow, one shard each, around the ring of shards.
    pub first_shard: u32,
}

impl Topic {
    /// The shard of a partition, in a data directory of `shards` shards.
    #[must_use]
    pub fn shard(&self, partition: u32, shards: usize) -> usize {
        (self.first_shard as usize + partition as usize) % shards
    }
}

/// All topics at one moment. Shards exchange it whole: it is small and changes seldom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicsImage {
    by_name: BTreeMap<TopicName, Topic>,
    names: BTreeMap<TopicId, TopicName>,
}

impl TopicsImage {
    /// An image of these topics. Of two with one name the later stays.
    pub fn from_topics(topics: impl IntoIterator<Item = Topic>) -> Self {
        let mut image = Self::default();
        for topic in topics {
            image.insert(topic);
        }
        image
    }

    /// Adds a topic, in place of one with the same name.
    pub fn insert(&mut self, topic: Topic) {
        if let Some(replaced) = self.by_name.get(&topic.name) {
            self.names.remove(&replaced.id);
        }
        self.names.insert(topic.id, topic.name.clone());
        self.by_name.insert(topic.name.clone(), topic);
    }

    /// Removes a topic, if it is there.
    pub fn remove(&mut self, id: TopicId) -> Option<Topic> {
        self.names.remove(&id).and_then(|name| self.by_name.remove(&name))
    }

    /// The topic of that name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Topic> {
        self.by_name.get(name)
    }

    /// The topic of that identity.
    #[must_use]
    pub fn by_id(&self, id: TopicId) -> Option<&Topic> {
        self.names.get(&id).and_then(|name| self.by_name.get(name))
    }

    /// All topics, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Topic> {
        self.by_name.values()
    }

    /// How many topics there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafkas_rules() {
        for good in ["t", "a.b_c-D9", &"x".repeat(249), "..."] {
            assert!(TopicName::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a b", "ä", "a/b", &"x".repeat(250)] {
            assert!(TopicName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn partitions_go_around_the_shards() {
        let name = TopicName::new("t").expect("a good name");
        let topic = Topic { id: TopicId(1), name, partitions: 5, first_shard: 2 };
        let shards: Vec<usize> = (0..5).map(|partition| topic.shard(partition, 3)).collect();
        assert_eq!(shards, [2, 0, 1, 2, 0]);
    }

    #[test]
    fn a_topic_made_again_is_another_one() {
        let name = TopicName::new("t").expect("a good name");
        let topic =
            |id| Topic { id: TopicId(id), name: name.clone(), partitions: 1, first_shard: 0 };
        let mut image = TopicsImage::from_topics([topic(1), topic(2)]);
        assert_eq!(image.by_name("t").map(|topic| topic.id), Some(TopicId(2)));
        assert!(image.by_id(TopicId(1)).is_none());
        assert!(image.remove(TopicId(1)).is_none());
        assert!(image.remove(TopicId(2)).is_some());
        assert!(image.is_empty());
    }
}
