// Package bus is the mesh's way onto Kafka: publish, subscribe in batches, keep a compacted topic as a
// map (Table), and set aside what cannot be handled (dead letters).
//
// It guarantees, on any broker that keeps what it acknowledged:
//
//   - What Publish returned nil for is on the topic; what it failed for may be.
//   - A record is handled at least once by each group, in offset order within its partition; its offset
//     is committed only after its handler returned nil, and only by the member that owns the partition.
//   - No record is passed over in silence: one that cannot be handled for what it is goes to
//     dead.<topic>, one that cannot be handled now stops its partition, and an offset that the broker no
//     longer has stops it too and raises the alarm.
//   - A Table shows states that the topic had, never a mixture, and can tell whether it is current.
//
// Partitions are read with kafka-go's Conn, not its Reader: the Reader moves on to the log's start in
// silence when an offset has expired, hides its position when compaction has left a hole, and can only be
// closed after its pending fetch.
package bus
