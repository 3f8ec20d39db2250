package store

import "time"

// EventsKept is how long the outbox keeps what was published, counted by position (which is never below
// the relay's clock): a client that comes back within it misses nothing.
const EventsKept = 7 * 24 * time.Hour
