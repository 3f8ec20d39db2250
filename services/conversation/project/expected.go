package project

import (
	"errors"

	pb "tributary.dev/proto/gen/tributary/v1"
)

// expectedOf are the most events of which it is expected that they are messages not seen before, of people who are met and
// neither frozen nor gone: a larger batch has more to lose by a rollback than by a round trip.
const expectedOf = 8

// errUnexpected: the transaction is to be run again, expecting nothing.
var errUnexpected = errors.New("project: not what was expected")

// expects tells whether to go on before it is known who is gone and what was seen.
func (b *batch) expects() bool {
	for _, e := range b.all {
		b.expecting = b.expecting && e.GetType() == pb.EventType_EVENT_TYPE_MESSAGE
	}
	for _, s := range b.named {
		_, met := b.mets[s.ID]
		b.expecting = b.expecting && met
	}
	return b.expecting
}

// found is errUnexpected where the answers, which are all there, are others than were expected.
func (b *batch) found() error {
	if !b.expecting {
		return nil
	}
	for _, s := range b.named {
		if at, alive := b.alive[s.ID]; !alive || at.Frozen {
			return errUnexpected
		}
	}
	if len(b.unseen) < len(b.all) {
		return errUnexpected
	}
	return nil
}
