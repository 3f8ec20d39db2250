package ingress

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/bus"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// SpoolKeysTopic is where the registry publishes the public halves.
const SpoolKeysTopic = "spoolkeys"

// SpoolKeyTable knows the registry's spool keys. Its last state is kept on the volume, so that an adapter
// started while the broker is away can still spool.
type SpoolKeyTable struct {
	*bus.Table[*pb.SpoolKey]
}

// NewSpoolKeyTable makes the table; Run fills it.
func NewSpoolKeyTable(b *bus.Bus, snapshotDir string) *SpoolKeyTable {
	return &SpoolKeyTable{bus.NewTable(b, bus.TableConfig[*pb.SpoolKey]{
		Topic: SpoolKeysTopic,
		Decode: func(value []byte) (*pb.SpoolKey, error) {
			key := &pb.SpoolKey{}
			if err := proto.Unmarshal(value, key); err != nil || key.GetId() == "" || len(key.GetPublicKey()) == 0 {
				return nil, errors.New("ingress: an entry is no spool key")
			}
			return key, nil
		},
		Encode:   func(key *pb.SpoolKey) ([]byte, error) { return proto.Marshal(key) },
		Snapshot: filepath.Join(snapshotDir, "spoolkeys.snapshot"),
	})}
}

// Run keeps the table until ctx ends.
func (t *SpoolKeyTable) Run(ctx context.Context) error { return t.Table.Run(ctx) }

// Current is the newest key that is to be used by now and whose private half still lives. The newest of
// all where the clock says that none is to be used yet: to spool under tomorrow's key is better than to
// refuse.
func (t *SpoolKeyTable) Current(now time.Time) (*pb.SpoolKey, bool) {
	var current *pb.SpoolKey
	us := now.UnixMicro()
	for _, key := range t.All {
		if d := key.GetDestroyedAtUs(); d != 0 && d <= us {
			continue
		}
		if current == nil || newer(key, current, us) {
			current = key
		}
	}
	return current, current != nil
}

func newer(a, b *pb.SpoolKey, nowUs int64) bool {
	begunA, begunB := a.GetNotBeforeUs() <= nowUs, b.GetNotBeforeUs() <= nowUs
	if begunA != begunB {
		return begunA
	}
	return a.GetNotBeforeUs() > b.GetNotBeforeUs()
}
