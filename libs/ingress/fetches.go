package ingress

import (
	"time"

	"github.com/maypok86/otter/v2"

	"tributary.dev/libs/inbound"
	pb "tributary.dev/proto/gen/tributary/v1"
)

const (
	// profileEvery is how often the fetcher is told of a person at most, less than the 10 minutes after which it asks again
	// about who could not be asked about; it knows itself whom it has.
	profileEvery = 5 * time.Minute
	//bound:cache persons that the fetcher was told of | {}, for {profileEvery} each | forgotten: it is told again
	maxTold = 50_000
)

// fetches decides which events the adapter's fetcher is given: those that name files, and one in a while of each
// person.
type fetches struct {
	told *otter.Cache[string, struct{}] // subject ids and nothing else
}

func newFetches() *fetches {
	//bound:exempt maxTold says it
	return &fetches{otter.Must(&otter.Options[string, struct{}]{
		//bound:exempt maxTold says it
		MaximumSize: maxTold, ExpiryCalculator: otter.ExpiryWriting[string, struct{}](profileEvery),
	})}
}

// wanted tells whether an event is for the fetcher, and whom it tells of by it: published is to be called with them
// once it was.
func (f *fetches) wanted(e *pb.ChannelEvent) (wanted bool, author string) {
	if inbound.ProfileOfAuthor(e) != nil {
		if _, told := f.told.GetEntryQuietly(e.GetAuthorSubject()); !told { // that somebody asks keeps nothing longer
			author = e.GetAuthorSubject()
		}
	}
	return author != "" || inbound.NamesFiles(e), author
}

func (f *fetches) published(author string) { f.told.Set(author, struct{}{}) }
