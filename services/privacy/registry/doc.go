// Package registry is the key registry: who a person is (identities to subjects) and the data keys that
// make them readable. It has a database of its own and a key store outside it; neither opens anything
// without the other.
//
// Services call it by gRPC (see NewServer): Acquire, Find, Unwrap, OpenSpool. The privacy service, in whose
// process it runs, also has
//
//	Freeze, LedgerAcked, Destroy     the registry's steps of an erasure, each safe to be done again
//	Restrict, Unrestrict             keys for storage and legal alone, and back
//	ApplyLedger                      what the erasure ledger says, to a registry that was restored
//	Turn, ResumeTurn                 a new epoch: everything wrapped anew, the old secret destroyed
//	Backup, Restore                  all rows in one file that was read back
//	Sweep                            destroys subjects that nobody stores anything for
//	BackupsUnreadableFrom, SigningKey  for certificates
//	Jobs                             all that has to run meanwhile: relay, turns, spool keys, sweep
//
// States of a subject: active; restricted (keys for storage and legal only); frozen (no key for anybody,
// identity detached: who writes again is a new subject); destroyed (no key at all). The registry caches
// nothing that a freeze changes.
//
// Keys: a data key per subject, wrapped under the secret of an epoch. Look-up is by HMAC of the identity
// under the epoch's pepper. Both derive from one secret of the key store, and die with it: an old dump of
// the database opens nothing once the epoch has turned.
package registry
