package api

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"tributary.dev/services/conversation/relay"
	"tributary.dev/services/conversation/store"
)

// However pages are handed over, and however far behind a stream is: it is told of each row once, in order, and reads
// the outbox only where it must.
func TestWhatIsPlacedIsToldOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := newStreams()
		var outbox []int64 // the positions of all rows
		newest, last := int64(0), int64(0)
		var told []int64
		look := func() {
			for {
				rows, upTo, more, known := s.after(last)
				if !known {
					for _, position := range outbox {
						if position > last {
							told = append(told, position)
						}
					}
					last = newest
					return
				}
				for _, row := range rows {
					told = append(told, row.Position)
				}
				if upTo <= last || upTo > newest {
					rt.Fatalf("from %d it reaches to %d of %d", last, upTo, newest)
				}
				if last = upTo; !more {
					return
				}
			}
		}
		var pages []relay.Page // not told of yet: two transactions may tell in another order than they placed in
		tell := func(i int) {
			s.placed(pages[i])
			pages = slices.Delete(pages, i, i+1)
		}
		rt.Repeat(map[string]func(*rapid.T){
			"place": func(rt *rapid.T) {
				page := relay.Page{From: newest, UpTo: newest, End: newest}
				cut := false
				for range rapid.IntRange(1, 5).Draw(rt, "rows") {
					entries := rapid.IntRange(1, 150).Draw(rt, "entries")
					newest += int64(entries) + rapid.Int64Range(0, 3).Draw(rt, "gap")
					page.End = newest
					outbox = append(outbox, newest)
					if cut = cut || rapid.IntRange(0, 9).Draw(rt, "large") == 0; !cut {
						page.Rows = append(page.Rows, store.Row{Position: newest, Entries: entries})
						page.UpTo = newest
					}
				}
				pages = append(pages, page)
				if rapid.IntRange(0, 3).Draw(rt, "late") > 0 {
					tell(len(pages) - 1)
					if rapid.Bool().Draw(rt, "woken") {
						look()
						if last < newest {
							rt.Fatalf("it is told up to %d of %d, and of the others by its poll alone", last, newest)
						}
					}
				}
			},
			"late": func(rt *rapid.T) {
				if len(pages) > 0 {
					tell(rapid.IntRange(0, len(pages)-1).Draw(rt, "page"))
				}
			},
			"elsewhere": func(*rapid.T) { newest++; outbox = append(outbox, newest) },
			"look":      func(*rapid.T) { look() },
			"": func(rt *rapid.T) {
				if s.events > recentEvents+750 || len(s.recent) > s.events {
					rt.Fatalf("%d events are kept", s.events)
				}
			},
		})
		for last < newest { // it is woken by the topic, or polls
			look()
		}
		if !slices.Equal(told, outbox) {
			rt.Fatalf("told of %v, placed %v", told, outbox)
		}
	})
}

func TestAStreamThatKeepsUpDoesNotReadTheOutbox(t *testing.T) {
	s := newStreams()
	s.placed(relay.Page{From: 7, UpTo: 9, End: 9, Rows: []store.Row{{Workspace: "w", Position: 9, Entries: 2}}})
	if rows, upTo, more, known := s.after(7); len(rows) != 1 || upTo != 9 || more || !known {
		t.Error(rows, upTo, more, known)
	}
	if _, _, _, known := s.after(6); known {
		t.Error("what lies behind was never handed over")
	}
	if !s.knows(9) || s.knows(10) {
		t.Error("it was handed what is up to 9")
	}
}
