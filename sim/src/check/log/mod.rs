//! The anomalies of a partitioned log.
