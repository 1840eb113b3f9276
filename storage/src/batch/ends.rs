//! Values that end because their keyspace says so.

use std::mem;

use super::{Base, BatchError, END_BYTES, Size, WriteBatch};

impl WriteBatch {
    /// The keyspaces that it changes, ascending.
    pub fn keyspaces(&self) -> impl Iterator<Item = u64> {
        self.keyspaces.keys().copied()
    }

    /// Has the values that it gives to keys of a keyspace, and that do not end, end at a time, in
    /// milliseconds since 1970. Values that end, whenever it is, stay as they are, and so do merge
    /// operands.
    ///
    /// # Errors
    /// `Full`; nothing is changed then.
    pub fn end_values(&mut self, keyspace: u64, expires_at_ms: u64) -> Result<(), BatchError> {
        let Some(changes) = self.keyspaces.get(&keyspace) else { return Ok(()) };
        let points = changes.points.values();
        let endless = points.filter(|point| matches!(point.base, Some(Base::Value(_)))).count();
        let ends = Size { bytes: endless * END_BYTES, ..Size::default() };
        let size = changes.size.plus(ends);
        let changes = self.resize(keyspace, size)?;
        for point in changes.points.values_mut() {
            if let Some(Base::Value(value)) = &mut point.base {
                point.base = Some(Base::Expiring(expires_at_ms, mem::take(value)));
            }
        }
        Ok(())
    }
}
