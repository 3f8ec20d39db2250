// Proof turns on a running mesh, as someone would who wants its claims to be false. It knows the mesh from
// outside alone: it sends signed webhooks as providers do, remembers each one that was answered 2xx, does
// harm meanwhile, and in the end reads the public API and compares.
//
// How it is built:
//
//   - scenario: a name, its harm, and run. The list is in scenarios(); a new one is a file of its own and a
//     line there. It runs on a fresh mesh, one after the other.
//   - run: what a scenario is given: the mesh with a Slack team and a number at Twilio connected to it
//     (world), traffic, ledger and stream. load delivers the traffic, under does so while harm is done.
//     Whatever a scenario does, its lost, doubled and disordered are counted by comparing, afterwards, by
//     the program. What else it wants true it tells with broken.
//   - ground: what a scenario needs real parts to be: a Kafka and a PostgreSQL of its own, replicas, wires that
//     can be cut.
//   - traffic: what people do, as a function of size and seed: made when it is sent, never kept.
//   - replies: what members write, under the ids that the API gave, and what it must come to.
//   - ledger: when each webhook was first sent and first answered 2xx. All that a run remembers.
//   - model: what the API must show of a conversation, from traffic and ledger. It is written apart from
//     the mesh: by the provider's ids and times alone.
//   - compare: reads every conversation by the API once and counts what differs from the model.
//   - stream: follows /v1/events, resuming where it was cut off, and notes when each message was shown.
//
// For erasing people: guest is somebody who writes and is erased, loot what was copied of a mesh before,
// keyring every key that could be had afterwards. erased is the scenario; the tests of TestErasure take the
// promises one by one.
package main
