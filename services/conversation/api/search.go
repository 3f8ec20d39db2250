package api

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/runes"
	"golang.org/x/text/transform"
	"golang.org/x/text/unicode/norm"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/access"
	"tributary.dev/libs/endpointx"
	"tributary.dev/libs/endpointx/problem"
	"tributary.dev/libs/seal"
	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
)

type searchMessages struct {
	Q              string     `query:"q" json:"-"`
	ConversationID *string    `query:"conversation_id" json:"-"`
	ContactID      *string    `query:"contact_id" json:"-"`
	After          *time.Time `query:"after" json:"-"`
	Before         *time.Time `query:"before" json:"-"`
	endpointx.Paging
}

// maxQueryBytes bounds what is searched for.
const maxQueryBytes = 800

// SearchPage is a page of what was found. Complete says that nothing is left to look through.
type SearchPage struct {
	Items      []Message `json:"items"`
	Complete   bool      `json:"complete"`
	Scanned    int       `json:"scanned"`
	NextCursor string    `json:"next_cursor,omitempty"`
}

// searchBatch messages are read and opened at a time: fewer keys than one call of the registry takes.
//
//bound:queue messages that a search opens at once | {} | the others follow
const searchBatch = 500

// scan is one search on its way from the newest message to the oldest.
//
//bound:exempt what one search finds, which is bounded by SearchMost
type scan struct {
	workspace string
	words     []string
	fold      folder
	// of: conversations looked through; nil is all of the workspace.
	of      []string
	after   int64
	order   int64 // the next message is before (order, id)
	id      string
	scanned int
	hits    []string
	done    bool
}

// searchMessages opens and looks through what the filter selects, until the page is full, everything was
// seen, the most was seen, or time is up. Nobody's words lie in an index.
func (a *API) searchMessages(ctx context.Context, req searchMessages) (SearchPage, error) {
	caller, _ := access.From(ctx)
	began := time.Now()
	s := &scan{workspace: caller.WorkspaceID, fold: newFolder(), after: math.MinInt64, order: math.MaxInt64}
	if err := s.start(req); err != nil {
		return SearchPage{}, err
	}
	if err := a.DB.View(ctx, func(tx *sqldb.Tx) (err error) { return s.choose(ctx, tx, req) }); err != nil {
		return SearchPage{}, err
	}
	for first := true; !s.done && len(s.hits) < req.Size() && s.scanned < a.SearchMost; first = false {
		if !first && time.Since(began) >= a.SearchTime {
			break // never before the first batch: whoever pages gets on
		}
		if err := a.lookThrough(ctx, s, min(searchBatch, a.SearchMost-s.scanned), req.Size()); err != nil {
			return SearchPage{}, err
		}
	}
	page := SearchPage{Complete: s.done, Scanned: s.scanned}
	if !s.done && s.scanned < a.SearchMost {
		page.NextCursor = req.Next(s.order, s.id, s.scanned)
	}
	var err error
	page.Items, err = a.view(ctx, caller.WorkspaceID, pb.Purpose_PURPOSE_SEARCH, func(tx *sqldb.Tx) ([]*messageRow, error) {
		list, args := sqldb.In(1, s.hits)
		return queryMessages(ctx, tx, shown+" AND m.id IN ("+list+") ORDER BY m.order_us DESC, m.id DESC", args...)
	})
	return page, err
}

// start reads the request.
func (s *scan) start(req searchMessages) error {
	s.words = strings.Fields(s.fold.fold(req.Q))
	if len(s.words) == 0 || len(req.Q) > maxQueryBytes {
		return problem.Invalid(map[string]string{"q": "must hold a word, and at most 800 bytes"})
	}
	if req.After != nil {
		s.after = req.After.UnixMicro()
	}
	if req.Before != nil {
		s.order = req.Before.UnixMicro()
	}
	if err := req.Behind(&s.order, &s.id, &s.scanned); err != nil {
		return err
	}
	if s.scanned < 0 {
		return problem.Invalid(map[string]string{"cursor": "is not a cursor that this list gave"})
	}
	return nil
}

// choose finds the conversations that the filter selects.
func (s *scan) choose(ctx context.Context, tx *sqldb.Tx, req searchMessages) error {
	s.of = nil
	if req.ConversationID != nil {
		c, err := conversation(ctx, tx, s.workspace, *req.ConversationID)
		if err != nil {
			return err
		}
		if req.ContactID == nil || c.ContactID != nil && *c.ContactID == *req.ContactID {
			s.of = []string{c.ID}
		}
		s.done = len(s.of) == 0
		return nil
	}
	if req.ContactID == nil {
		return nil
	}
	if err := contactShown(ctx, tx, s.workspace, *req.ContactID); err != nil {
		return err
	}
	err := sqldb.Query(ctx, tx, "SELECT id FROM conversations WHERE contact_id = $1 AND contact_id <> '' AND frozen = 0", []any{*req.ContactID},
		func(rows sqldb.Row) error {
			var id string
			err := rows.Scan(&id)
			s.of = append(s.of, id)
			return err
		})
	s.done = len(s.of) == 0
	return err
}

// lookThrough reads, opens and compares the next batch.
func (a *API) lookThrough(ctx context.Context, s *scan, batch, size int) error {
	var rows []*messageRow
	if err := a.DB.View(ctx, func(tx *sqldb.Tx) (err error) {
		rows, err = s.next(ctx, tx, batch)
		return err
	}); err != nil {
		return err
	}
	o := &opening{workspace: s.workspace}
	for _, m := range rows {
		o.add(m.content, pb.Category_CATEGORY_CONTENT, seal.OriginContent(m.contentID, m.contentOrder), func(plain []byte, err error) {
			if err != nil || proto.Unmarshal(plain, &m.text) != nil {
				proto.Reset(&m.text)
			}
		})
	}
	if err := o.open(ctx, a.Seal, pb.Purpose_PURPOSE_SEARCH); err != nil {
		return err
	}
	for _, m := range rows {
		s.order, s.id = m.order, m.id
		s.scanned++
		if s.match(&m.text) {
			if s.hits = append(s.hits, m.id); len(s.hits) == size {
				return nil
			}
		}
	}
	s.done = len(rows) < batch
	return nil
}

const (
	window               = shown + " AND (m.order_us, m.id) < ($2, $3) AND m.order_us >= $4"
	newest               = " ORDER BY m.order_us DESC, m.id DESC LIMIT $5"
	newestOfWorkspace    = window + " AND m.workspace_id = $1" + newest
	newestOfConversation = window + " AND m.conversation_id = $1" + newest
)

// next reads the next messages, the newest first. Of a contact's conversations each is read by its own
// index and the newest of all are taken, so that no batch sorts a whole history.
func (s *scan) next(ctx context.Context, tx *sqldb.Tx, batch int) ([]*messageRow, error) {
	if s.of == nil {
		return queryMessages(ctx, tx, newestOfWorkspace, s.workspace, s.order, s.id, s.after, batch)
	}
	var rows []*messageRow
	for _, id := range s.of {
		more, err := queryMessages(ctx, tx, newestOfConversation, id, s.order, s.id, s.after, batch)
		if err != nil {
			return nil, err
		}
		rows = append(rows, more...)
		slices.SortFunc(rows, func(a, b *messageRow) int {
			return cmp.Or(cmp.Compare(b.order, a.order), cmp.Compare(b.id, a.id))
		})
		rows = rows[:min(len(rows), batch)]
	}
	return rows, nil
}

// match tells whether every word stands in what was written.
func (s *scan) match(c *pb.Content) bool {
	if c.GetText() == "" && c.GetSubject() == "" {
		return false
	}
	text := s.fold.fold(c.GetSubject() + "\n" + c.GetText())
	for _, word := range s.words {
		if !strings.Contains(text, word) {
			return false
		}
	}
	return true
}

// folder makes texts comparable whatever their case and accents: compatibility decomposition, marks
// removed, case folded (Unicode, chapters 3.11 and 3.13). One is for one goroutine.
type folder struct{ t transform.Transformer }

func newFolder() folder {
	return folder{transform.Chain(norm.NFKD, runes.Remove(runes.In(unicode.Mn)), cases.Fold())}
}

func (f folder) fold(s string) string {
	if ascii(s) {
		return strings.ToLower(s)
	}
	folded, _, err := transform.String(f.t, s)
	if err != nil { // not UTF-8
		return strings.ToLower(s)
	}
	return folded
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
