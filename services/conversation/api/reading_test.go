package api_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"tributary.dev/libs/access"
	"tributary.dev/libs/seal"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/api"
	"tributary.dev/services/conversation/api/apitest"
)

func callerWithout() access.Caller { return access.Caller{KeyID: "key", WorkspaceID: us} }

// walk reads all pages of a list, two items each, and gives the items.
func walk[T any](h *house, path string) (items []T) {
	h.Helper()
	mark := map[bool]string{true: "&", false: "?"}[strings.Contains(path, "?")]
	for cursor := ""; ; {
		p := read[page[T]](h.get(path + mark + "limit=2" + cursor))
		if len(p.Items) > 2 {
			h.Fatalf("a page of %d", len(p.Items))
		}
		items = append(items, p.Items...)
		if p.NextCursor == "" {
			return items
		}
		cursor = "&cursor=" + p.NextCursor
	}
}

func ids[T any](items []T, id func(T) string) (all []string) {
	for _, item := range items {
		all = append(all, id(item))
	}
	return all
}

func messageID(m api.Message) string           { return m.ID }
func conversationID(c api.Conversation) string { return c.ID }
func contactID(c api.Contact) string           { return c.ID }

func TestConversationsComeNewestFirstAndByWhatTheyAreFilteredBy(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		var all []string
		people := make([]human, 5)
		for i := range people {
			people[i] = h.person(us, fmt.Sprintf("+4179000000%d", i), "", int64(i+1))
			// Two have the same time: the id decides.
			all = append(all, h.talk(people[i], 5_000_000+int64(i/2)*1_000_000, map[string]any{
				"status": []string{"open", "pending", "snoozed", "resolved", "resolved"}[i], "status_us": []int64{0, 9, 1, 9e15, 1}[i]}))
		}
		h.exec("UPDATE conversations SET connection_id = $1 WHERE id = $2", "22222222-2222-4222-8222-222222222222", all[2])
		h.insert("conversations", map[string]any{"id": uuid.NewString(), "workspace_id": us, "channel": "sms", "connection_id": connection}) // no message yet
		order := func(i, j int) []string {
			if all[i] > all[j] {
				return []string{all[i], all[j]}
			}
			return []string{all[j], all[i]}
		}
		want := slices.Concat([]string{all[4]}, order(2, 3), order(0, 1))
		if got := ids(walk[api.Conversation](h, "/v1/conversations"), conversationID); !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		for query, want := range map[string][]string{
			// Whoever wrote after a member's decision opens the conversation again.
			"status=open":     {all[4], all[2], all[0]},
			"status=pending":  {all[1]},
			"status=resolved": {all[3]},
			"status=snoozed":  nil,
			"connection_id=22222222-2222-4222-8222-222222222222":          {all[2]},
			"connection_id=urn:uuid:22222222-2222-4222-8222-222222222222": {all[2]},
			"contact_id=" + people[3].contact:                             {all[3]},
			"channel=slack":                                               nil,
			"channel=sms&status=pending":                                  {all[1]},
		} {
			if got := ids(walk[api.Conversation](h, "/v1/conversations?"+query), conversationID); !slices.Equal(got, want) {
				t.Errorf("%s: got %v, want %v", query, got, want)
			}
		}
	})
}

// A list goes through buckets of time, several conversations in each: none is left out at the edge of one.
func TestAListGoesThroughAllTimes(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		var want []string
		for i := range 9 {
			p := h.person(us, fmt.Sprintf("+4179000000%d", i), "Ada", 1)
			want = append(want, h.talk(p, start.UnixMicro()+int64(i)*25_000_000, nil))
		}
		slices.Reverse(want)
		if got := ids(walk[api.Conversation](h, "/v1/conversations"), conversationID); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func TestAConversationCountsWhatWasNotRead(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		p := h.person(us, "+41790000001", "Ada", 1)
		c := h.talk(p, 5_000_000, nil)
		var said []string
		for i := range 5 {
			said = append(said, h.says(p, c, int64(i+1)*1_000_000, text("hello"), nil))
		}
		h.exec("UPDATE messages SET deleted_us = 1, ciphertext = NULL WHERE id = $1", said[1])
		unread := func(a answer, want int) {
			t.Helper()
			if got := read[api.Conversation](a); got.Unread != want {
				t.Fatalf("%d unread, want %d", got.Unread, want)
			}
		}
		unread(h.get("/v1/conversations/"+c), 4)
		unread(h.do("POST", "/v1/conversations/"+c+"/read", `{"message_id":"`+said[2]+`"}`), 2)
		unread(h.do("POST", "/v1/conversations/"+c+"/read", `{"message_id":"`+said[0]+`"}`), 2)
		unread(h.do("POST", "/v1/conversations/"+c+"/read", ""), 0)
		unread(h.do("POST", "/v1/conversations/"+c+"/read", `{}`), 0)
		h.do("POST", "/v1/conversations/"+c+"/read", `{"message_id":"`+uuid.NewString()+`"}`).problem(422, "invalid", "message_id")

		ahead := start.UnixMicro() + 60_000_000 // the provider's clock is ahead of ours
		h.says(p, c, ahead, text("hello"), nil)
		h.exec("UPDATE conversations SET last_us = $1, last_inbound_us = $1 WHERE id = $2", ahead, c)
		unread(h.get("/v1/conversations/"+c), 1)
		if posted := h.do("POST", "/v1/conversations/"+c+"/messages", `{"type":"note","text":"seen"}`); posted.Code != 201 {
			t.Fatal(posted.Code, posted.Body)
		}
		unread(h.get("/v1/conversations/"+c), 0) // who answers has read
	})
}

func TestAMembersDecisionStandsUntilThePersonWritesAgain(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		p := h.person(us, "+41790000001", "Ada", 1)
		ahead := start.UnixMicro() + 60_000_000 // the provider's clock is ahead of ours
		c := h.talk(p, ahead, nil)
		if got := read[api.Conversation](h.do("PATCH", "/v1/conversations/"+c, `{"status":"resolved"}`)); got.Status != "resolved" {
			t.Fatalf("status %s", got.Status)
		}
		h.exec("UPDATE conversations SET last_us = $1, last_inbound_us = $1 WHERE id = $2", ahead+1, c)
		if got := read[api.Conversation](h.get("/v1/conversations/" + c)); got.Status != "open" {
			t.Fatalf("status %s", got.Status)
		}
		h.do("PATCH", "/v1/conversations/"+c, `{"status":"closed"}`).problem(422, "invalid", "status")
		h.do("PATCH", "/v1/conversations/"+c, `{"status":"open","colour":"red"}`).problem(422, "invalid", "colour")
		h.do("PATCH", "/v1/conversations/"+c, `{"status":`).problem(400, "malformed")
	})
}

func TestMessagesComeInTheProvidersOrderEitherWay(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		p := h.person(us, "+41790000001", "Ada", 1)
		c := h.talk(p, 5_000_000, nil)
		var want []string
		for i := range 7 {
			want = append(want, h.says(p, c, 1_000_000+int64(i/3)*1_000_000, text(fmt.Sprint(i)), nil))
		}
		for _, tied := range [][]string{want[0:3], want[3:6]} {
			slices.Sort(tied)
		}
		if got := ids(walk[api.Message](h, "/v1/conversations/"+c+"/messages?order=asc"), messageID); !slices.Equal(got, want) {
			t.Fatalf("oldest first: got %v, want %v", got, want)
		}
		slices.Reverse(want)
		if got := ids(walk[api.Message](h, "/v1/conversations/"+c+"/messages"), messageID); !slices.Equal(got, want) {
			t.Fatalf("newest first: got %v, want %v", got, want)
		}
		if calls := h.registry.Calls("Unwrap"); calls > 1 {
			t.Fatalf("the registry was asked %d times for one key", calls)
		}
	})
}

func naming(start, length int32, number string) *pb.Mention {
	return &pb.Mention{Start: start, Length: length, IdentityKind: "phone", IdentityValue: number}
}

func TestWhoeverIsMentionedIsNamedOnceTheyAreKnown(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ada := h.person(us, "+41790000001", "Ada", 1)
		c := h.talk(ada, 5_000_000, nil)
		of := &pb.Content{Text: strings.Repeat("@x ", 600)}
		for i := range int32(600) {
			of.Mentions = append(of.Mentions, naming(3*i, 2, fmt.Sprintf("+4179100%04d", i)))
		}
		of.Mentions[1] = naming(3, 2, "\x00")
		h.says(ada, c, 1_000_000, of, nil)
		list := func() api.Message {
			t.Helper()
			return read[page[api.Message]](h.get("/v1/conversations/" + c + "/messages")).Items[0]
		}
		if m := list(); m.Text != of.Text || len(m.Mentions) != 600 || m.Mentions[0].ContactID != nil {
			t.Errorf("nobody is known, and it reads %+v", m)
		}
		if calls := h.registry.Calls("Find"); calls != 1 {
			t.Errorf("the registry was asked %d times for one page", calls)
		}
		bob := h.person(us, "+41791000000", "Bob", 1)
		h.person(us, "+41791000599", "One Too Many", 1)
		h.person(others, "+41791000002", "Eve", 1)
		if m := list(); m.Text != "@Bob"+of.Text[2:] || *m.Mentions[0].ContactID != bob.contact || m.Mentions[2].ContactID != nil {
			t.Errorf("got %+v", m)
		}
		h.registry.FailWith(errors.New("away"))
		h.get("/v1/conversations/"+c+"/messages").problem(503, "unavailable")
		h.registry.FailWith(nil)
		h.registry.Destroy(bob.ID)
		h.keys.Evict(bob.ID)
		if m := list(); m.Text != of.Text {
			t.Errorf("Bob is erased, and it reads %q", m.Text)
		}
	})
}

func TestAMessageShowsWhatHangsOnIt(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ada, bob := h.person(us, "+41790000001", "Ada", 1), h.person(us, "+41790000002", "Bob", 1)
		h.person(us, "+41790000003", "", 1)
		g := h.group(us, 5_000_000)
		first := h.says(bob, g, 1_000_000, text("first"), nil)
		attachment := uuid.NewString()
		id := h.says(ada, g, 2_000_000, &pb.Content{
			Text: "hi @someone and @other!", Attachments: []*pb.Attachment{{Id: attachment, Name: "plan.pdf"}},
			Mentions: []*pb.Mention{naming(3, 8, "+41790000002"), naming(16, 6, "+41790000003"), naming(90, 9, "+41790000002")},
		}, map[string]any{"edited_us": 3_000_000, "reply_to": "x-" + first})
		h.insert("attachments", map[string]any{"id": attachment, "workspace_id": us, "connection_id": connection, "message_id": id, "subject_id": ada.ID,
			"declared": 1, "kind": "file", "content_type": "application/pdf", "size": 7, "at_us": 1})
		h.insert("attachments", map[string]any{"id": uuid.NewString(), "workspace_id": us, "connection_id": connection, "message_id": id,
			"declared": 0, "at_us": 1}) // not named by the content: it waits
		h.insert("attachments", map[string]any{"id": uuid.NewString(), "workspace_id": us, "connection_id": connection, "message_id": id,
			"declared": 1, "at_us": 1}) // an edit took it out
		react := func(event, key string, order int64, removed int) {
			h.insert("reactions", map[string]any{"event_id": event, "connection_id": connection, "external_id": "x-" + id, "message_id": id, "workspace_id": us,
				"reaction_key": key, "author_subject": bob.ID, "order_us": order, "removed": removed, "key_id": bob.KeyID, "content_order": order, "at_us": 1,
				"ciphertext": h.seal(bob.Subject, pb.Category_CATEGORY_CONTENT, seal.OriginReaction(key, order), &pb.Content{Emoji: "tada"})})
		}
		react("r1", "k1", 4_000_000, 0)
		react("r2", "k2", 4_000_000, 0)
		react("r3", "k2", 4_500_000, 1)

		list := read[page[api.Message]](h.get("/v1/conversations/" + g + "/messages")).Items
		if len(list) != 2 {
			t.Fatalf("%d messages", len(list))
		}
		m := list[0]
		if m.Text != "hi @Bob and @other!" || m.Content != "open" || m.Sender.Name != "Ada" || m.Sender.ContactID != ada.contact {
			t.Errorf("got %+v", m)
		}
		if len(m.Mentions) != 2 || m.Text[m.Mentions[0].Start:][:m.Mentions[0].Length] != "@Bob" || *m.Mentions[0].ContactID != bob.contact ||
			m.Text[m.Mentions[1].Start:][:m.Mentions[1].Length] != "@other" {
			t.Errorf("mentions %+v", m.Mentions)
		}
		if len(m.Attachments) != 1 || m.Attachments[0].Name != "plan.pdf" || m.Attachments[0].State != "pending" || m.Attachments[0].URL != nil {
			t.Errorf("attachments %+v", m.Attachments)
		}
		if len(m.Reactions) != 1 || m.Reactions[0].Emoji != "tada" || m.Reactions[0].Sender.Name != "Bob" {
			t.Errorf("reactions %+v", m.Reactions)
		}
		if m.ReplyTo == nil || *m.ReplyTo != first || m.EditedAt == nil || *m.EditedAt != "1970-01-01T00:00:03.000000Z" || m.Status != nil {
			t.Errorf("got %+v", m)
		}
		if calls := h.registry.Calls("Unwrap"); calls > 2 {
			t.Errorf("the registry was asked %d times for one page", calls)
		}
		// Bob is erased: his message, his reaction and his name are nowhere; Ada's words stay.
		h.exec("UPDATE subjects SET frozen = 1 WHERE id = $1", bob.ID)
		h.registry.Freeze(bob.ID)
		h.keys.Evict(bob.ID)
		list = read[page[api.Message]](h.get("/v1/conversations/" + g + "/messages")).Items
		if len(list) != 1 || len(list[0].Reactions) != 0 || list[0].Text != "hi @someone and @other!" {
			t.Errorf("got %+v", list)
		}
		h.get("/v1/messages/"+first).problem(410, "gone")
		h.exec("UPDATE messages SET deleted_us = 9000000, ciphertext = NULL WHERE id = $1", id)
		m = read[api.Message](h.get("/v1/messages/" + id))
		if m.Content != "deleted" || m.DeletedAt == nil || m.Text != "" || len(m.Attachments) != 0 || len(m.Reactions) != 0 {
			t.Errorf("deleted: %+v", m)
		}
	})
}

func TestAMailShowsItsSubjectItsWholeTextAndItsImages(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ada := h.person(us, "+41790000001", "Ada", 1)
		c, image, file := h.talk(ada, 2_000_000, nil), uuid.NewString(), uuid.NewString()
		id := h.says(ada, c, 2_000_000, &pb.Content{
			Subject: "Broken", Text: "See", FullText: "See\n\n> what", Html: `<p>See <img src="cid:photo@x"></p>`, Payload: "order-7",
			Attachments: []*pb.Attachment{{Id: image, Name: "a.png", ExternalId: "cid:photo@x"}, {Id: file, Name: "b.pdf", ExternalId: "1"}},
		}, nil)
		for i, a := range []string{image, file} {
			h.insert("attachments", map[string]any{"id": a, "workspace_id": us, "connection_id": connection, "message_id": id, "subject_id": ada.ID,
				"declared": 1, "position": i, "kind": "file", "content_type": "application/pdf", "size": 7, "at_us": 1})
		}
		m := read[api.Message](h.get("/v1/messages/" + id))
		if m.Subject != "Broken" || m.Text != "See" || m.FullText != "See\n\n> what" || m.HTML != `<p>See <img src="cid:photo@x"></p>` || m.Payload != "order-7" {
			t.Errorf("got %+v", m)
		}
		if len(m.Attachments) != 2 || m.Attachments[0].ContentID != "photo@x" || m.Attachments[1].ContentID != "" {
			t.Errorf("attachments %+v", m.Attachments)
		}
	})
}

func TestHTMLLeavesCleanHoweverItIsKept(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ada := h.person(us, "+41790000001", "Ada", 1)
		c := h.talk(ada, 2_000_000, nil)
		id := h.says(ada, c, 2_000_000, &pb.Content{
			Text: "See", Html: `<p onclick="alert(1)">See</p><script>alert(1)</script><img src="https://evil.example/p.gif"><div style="position:fixed">x</div>`,
		}, nil)
		const want = "<p>See</p><div>x</div>"
		if m := read[api.Message](h.get("/v1/messages/" + id)); m.HTML != want {
			t.Errorf("by its id: %q", m.HTML)
		}
		if list := read[page[api.Message]](h.get("/v1/conversations/" + c + "/messages")).Items; len(list) != 1 || list[0].HTML != want {
			t.Errorf("in its conversation: %+v", list)
		}
		if found := read[page[api.Message]](h.get("/v1/messages/search?q=see")).Items; len(found) != 1 || found[0].HTML != want {
			t.Errorf("found: %+v", found)
		}
	})
}

func TestFrozenContactsAreGoneByIdAndMissingFromLists(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ada, bob := h.person(us, "+41790000001", "Ada", 1), h.person(us, "+41790000002", "Bob", 2)
		a, b := h.talk(ada, 5_000_000, nil), h.talk(bob, 6_000_000, nil)
		m := h.says(ada, a, 1_000_000, text("hello world"), nil)
		h.says(bob, b, 1_000_000, text("hello world"), nil)
		for _, table := range []string{"contacts", "conversations"} {
			h.exec("UPDATE "+table+" SET frozen = 1 WHERE id IN ($1, $2)", ada.contact, a)
		}
		h.exec("UPDATE subjects SET frozen = 1 WHERE id = $1", ada.ID)
		for _, path := range []string{"/v1/conversations/" + a, "/v1/conversations/" + a + "/messages", "/v1/messages/" + m, "/v1/contacts/" + ada.contact,
			"/v1/messages/search?q=hello&contact_id=" + ada.contact, "/v1/messages/search?q=hello&conversation_id=" + a,
			"/v1/conversations?contact_id=" + ada.contact} {
			h.get(path).problem(410, "gone")
		}
		h.do("POST", "/v1/conversations/"+a+"/messages", `{"text":"hi"}`).problem(410, "gone")
		h.do("PATCH", "/v1/conversations/"+a, `{"status":"open"}`).problem(410, "gone")
		h.do("POST", "/v1/conversations/"+a+"/read", `{}`).problem(410, "gone")
		h.do("POST", "/v1/messages/"+m+"/retry", "").problem(410, "gone")
		if got := ids(walk[api.Conversation](h, "/v1/conversations"), conversationID); !slices.Equal(got, []string{b}) {
			t.Errorf("conversations %v", got)
		}
		if got := ids(walk[api.Contact](h, "/v1/contacts"), contactID); !slices.Equal(got, []string{bob.contact}) {
			t.Errorf("contacts %v", got)
		}
		if got := read[page[api.Message]](h.get("/v1/messages/search?q=hello")); len(got.Items) != 1 || got.Items[0].ConversationID != b || !got.Complete {
			t.Errorf("found %+v", got)
		}
	})
}

func TestAnotherWorkspacesIdsAreNotFound(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		p := h.person(others, "+41790000001", "Ada", 1)
		c := h.talk(p, 5_000_000, nil)
		m := h.says(p, c, 1_000_000, text("hello"), nil)
		for _, path := range []string{"/v1/conversations/" + c, "/v1/conversations/" + c + "/messages", "/v1/messages/" + m, "/v1/contacts/" + p.contact,
			"/v1/messages/search?q=x&conversation_id=" + c, "/v1/messages/search?q=x&contact_id=" + p.contact, "/v1/attachments/" + m + "/content",
			"/v1/conversations?contact_id=" + p.contact} {
			h.get(path).problem(404, "not_found")
		}
		h.do("POST", "/v1/conversations/"+c+"/messages", `{"text":"hi"}`).problem(404, "not_found")
		h.do("POST", "/v1/conversations/"+c+"/attachments", "hi").problem(404, "not_found")
		h.do("POST", "/v1/messages/"+m+"/retry", "").problem(404, "not_found")
		h.do("PATCH", "/v1/conversations/"+c, `{"status":"open"}`).problem(404, "not_found")
		for _, path := range []string{"/v1/conversations", "/v1/contacts", "/v1/contacts?identity_kind=phone&identity=%2B41790000001", "/v1/messages/search?q=hello"} {
			if got := read[page[struct{}]](h.get(path)); len(got.Items) != 0 {
				t.Errorf("%s shows %d of another workspace", path, len(got.Items))
			}
		}
		h.as(apitest.Owner(others))
		read[api.Message](h.get("/v1/messages/" + m))
	})
}

func TestBadParametersAreNamed(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		p := h.person(us, "+41790000001", "Ada", 1)
		c := h.talk(p, 5_000_000, nil)
		for path, field := range map[string]string{
			"/v1/conversations?limit=0":                                  "limit",
			"/v1/conversations?limit=201":                                "limit",
			"/v1/conversations?limit=many":                               "limit",
			"/v1/conversations?cursor=":                                  "cursor",
			"/v1/conversations?cursor=nonsense":                          "cursor",
			"/v1/contacts?cursor=1.W10":                                  "cursor",
			"/v1/conversations?status=closed":                            "status",
			"/v1/conversations?channel=Slack":                            "channel",
			"/v1/conversations?connection_id=x":                          "connection_id",
			"/v1/conversations/" + c + "/messages?order=up":              "order",
			"/v1/conversations/" + c + "/messages?cursor=1.WyJ4IiwieSJd": "cursor",
			"/v1/messages/search":                                        "q",
			"/v1/messages/search?q=%20":                                  "q",
			"/v1/messages/search?q=" + strings.Repeat("x", 801):          "q",
			"/v1/messages/search?q=x&after=yesterday":                    "after",
			"/v1/messages/search?q=x&cursor=1.WzEsIngiLC0xXQ":            "cursor",
			"/v1/contacts?identity=x":                                    "identity_kind",
			"/v1/contacts?identity_kind=phone":                           "identity",
			"/v1/contacts?identity_kind=phone&identity=12":               "identity",
			"/v1/contacts?identity_kind=phone&identity=":                 "identity",
			"/v1/contacts?identity_kind=whatsapp&identity=x":             "identity",
			"/v1/contacts?identity_kind=shoe&identity=12":                "identity_kind",
		} {
			h.get(path).problem(422, "invalid", field)
		}
	})
}

func TestWhatDoesNotOpenSaysSoAndHidesNothingElse(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ada, bob := h.person(us, "+41790000001", "Ada", 1), h.person(us, "+41790000002", "Bob", 1)
		g := h.group(us, 5_000_000)
		a := h.says(ada, g, 1_000_000, text("from ada"), nil)
		b := h.says(bob, g, 2_000_000, text("from bob"), nil)
		states := func() string {
			var s []string
			for _, m := range read[page[api.Message]](h.get("/v1/conversations/" + g + "/messages?order=asc")).Items {
				s = append(s, m.Content+":"+m.Text+":"+m.Sender.Name)
			}
			return strings.Join(s, " ")
		}
		want := func(want string) {
			t.Helper()
			if got := states(); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		want("open:from ada:Ada open:from bob:Bob")
		h.registry.Restrict(ada.ID)
		h.keys.Evict(ada.ID)
		want("restricted:: open:from bob:Bob")
		h.registry.Unrestrict(ada.ID)
		h.keys.Evict(ada.ID)
		// A part moved to another record does not open there, nor does it stop the page.
		h.exec("UPDATE messages SET ciphertext = (SELECT ciphertext FROM messages WHERE id = $1) WHERE id = $2", a, b)
		want("open:from ada:Ada unreadable::Bob")
		h.registry.Destroy(ada.ID)
		h.keys.Evict(ada.ID)
		want("gone:: unreadable::Bob")
		// While the registry is away nothing is answered half-open.
		h.registry.FailWith(errors.New("away"))
		h.keys.Evict(ada.ID, bob.ID)
		for _, path := range []string{"/v1/conversations/" + g + "/messages", "/v1/messages/" + b, "/v1/contacts", "/v1/contacts/" + ada.contact,
			"/v1/messages/search?q=from", "/v1/contacts?identity_kind=phone&identity=%2B41790000009"} {
			w := h.get(path)
			w.problem(503, "unavailable")
			if w.Header().Get("Retry-After") == "" {
				t.Errorf("%s: no Retry-After", path)
			}
		}
		h.get("/v1/conversations").is(http.StatusOK)
	})
}

// Of a message that events brought, what its row says of its content is no help to who moves that.
func TestContentMovedWithAllThatItsRowSaysDoesNotOpen(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ada := h.person(us, "+41790000001", "Ada", 1)
		c := h.talk(ada, 5_000_000, nil)
		a := h.says(ada, c, 1_000_000, text("one thing"), map[string]any{"head_event": "event"})
		b := h.says(ada, c, 2_000_000, text("another thing"), map[string]any{"head_event": "event"})
		for _, edited := range []int{0, 3_000_000} {
			h.exec(`UPDATE messages SET edited_us = $3, ciphertext = o.ciphertext, content_id = o.content_id, content_order = o.content_order
				FROM (SELECT ciphertext, content_id, content_order FROM messages WHERE id = $1) AS o WHERE messages.id = $2`, a, b, edited)
			if m := read[api.Message](h.get("/v1/messages/" + b)); m.Content != "unreadable" || m.Text != "" {
				t.Errorf("edited %d: %s %q", edited, m.Content, m.Text)
			}
			found := read[page[api.Message]](h.get("/v1/messages/search?q=thing")).Items
			if len(found) != 1 || found[0].ID != a {
				t.Errorf("edited %d: %d are found", edited, len(found))
			}
		}
		// One of our own is known to its provider by another id: an edit of it says which.
		h.exec("UPDATE messages SET head_event = '', edited_us = 3000000 WHERE id = $1", b)
		if m := read[api.Message](h.get("/v1/messages/" + b)); m.Text != "one thing" {
			t.Errorf("an edit of our own message: %s %q", m.Content, m.Text)
		}
	})
}

func TestContactsAreFoundByTheirIdentityAndShowWhoTheyAre(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ada := h.person(us, "+41790000001", "Ada", 1)
		bob := h.person(us, "+41790000002", "", 2)
		if got := ids(walk[api.Contact](h, "/v1/contacts"), contactID); !slices.Equal(got, []string{bob.contact, ada.contact}) {
			t.Fatalf("got %v", got)
		}
		found := read[page[api.Contact]](h.get("/v1/contacts?identity_kind=phone&identity=%2B41%2079%20000%2000%2001")).Items
		if len(found) != 1 || found[0].ID != ada.contact || found[0].Name != "Ada" || found[0].Attributes["locale"] != "de-CH" ||
			len(found[0].Identities) != 1 || found[0].Identities[0] != (api.Identity{Channel: "sms", Kind: "phone", Value: "+41790000001"}) {
			t.Fatalf("found %+v", found)
		}
		for _, written := range []string{"tel:+41790000001", "+41/79/000 00 01", "+41\u00a079\u00a0000\u00a000\u00a001", "+41 79\u2011000\u201100\u201101"} {
			found := read[page[api.Contact]](h.get("/v1/contacts?identity_kind=phone&identity=" + url.QueryEscape(written))).Items
			if len(found) != 1 || found[0].ID != ada.contact {
				t.Fatalf("%q finds %+v", written, found)
			}
		}
		for _, identity := range []string{"whatsapp&identity=whatsapp:%2B41790000001", "phone&identity=12345", "slack_user&identity=T1:U1"} {
			if got := read[page[api.Contact]](h.get("/v1/contacts?identity_kind=" + identity)).Items; len(got) != 0 {
				t.Fatalf("%s found %+v", identity, got)
			}
		}
		before := h.registry.Subjects()
		if got := read[page[api.Contact]](h.get("/v1/contacts?identity_kind=email&identity=x@example.org")).Items; len(got) != 0 {
			t.Fatalf("found %+v", got)
		}
		if h.registry.Subjects() != before {
			t.Fatal("a look-up made a subject")
		}
	})
}

func TestNoAnswerOfAFaultAndNoLogCarriesWordsOrNames(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		const canary = "canary-7f3a"
		p := h.person(us, "+41790000001", canary, 1)
		c := h.talk(p, 5_000_000, nil)
		m := h.says(p, c, 1_000_000, text(canary), nil)
		read[api.Message](h.get("/v1/messages/" + m))
		read[page[api.Message]](h.get("/v1/messages/search?q=" + canary))
		faults := []answer{
			h.do("POST", "/v1/conversations/"+c+"/messages", `{"text":"`+canary+`","attachments":["`+canary+`"]}`),
			h.do("POST", "/v1/conversations/"+c+"/messages", `{"text":["`+canary+`"]}`),
			h.do("POST", "/v1/conversations/"+c+"/messages", `{"text":"`+canary),
			h.do("POST", "/v1/conversations/"+c+"/attachments", canary, header("Content-Disposition", `attachment; filename="`+canary)),
			h.get("/v1/contacts?identity_kind=phone&identity=" + canary),
		}
		h.exec("UPDATE messages SET content_order = 7 WHERE id = $1", m)
		read[api.Message](h.get("/v1/messages/" + m))
		h.registry.FailWith(errors.New("away: " + canary))
		h.keys.Evict(p.ID)
		faults = append(faults, h.get("/v1/messages/"+m), h.get("/v1/messages/search?q="+canary))
		for i, f := range faults {
			if f.Code < 400 || strings.Contains(f.Body.String(), canary) {
				t.Errorf("fault %d: %d %s", i, f.Code, f.Body)
			}
		}
		if logs := h.logs.String(); !strings.Contains(logs, "request failed") || strings.Contains(logs, canary) {
			t.Errorf("logged: %s", logs)
		}
	})
}

func TestACursorIsGoodForTheListThatGaveItAlone(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		var talks []string
		for i := range 2 {
			p := h.person(us, fmt.Sprintf("+4179000000%d", i), "", int64(i+1))
			talks = append(talks, h.talk(p, 5_000_000, nil))
			h.says(p, talks[i], 1_000_000, text("hello"), nil)
			h.says(p, talks[i], 2_000_000, text("hello"), nil)
		}
		lists := []string{"/v1/conversations?limit=1", "/v1/conversations?limit=1&status=open", "/v1/contacts?limit=1",
			"/v1/conversations/" + talks[0] + "/messages?limit=1", "/v1/conversations/" + talks[1] + "/messages?limit=1",
			"/v1/conversations/" + talks[0] + "/messages?limit=1&order=asc", "/v1/messages/search?limit=1&q=hello", "/v1/messages/search?limit=1&q=ello"}
		for _, from := range lists {
			cursor := read[page[map[string]any]](h.get(from)).NextCursor
			if cursor == "" {
				t.Fatalf("%s has one page", from)
			}
			for _, to := range lists {
				if to != from {
					h.get(to+"&cursor="+cursor).problem(422, "invalid", "cursor")
				}
			}
			h.get(strings.Replace(from, "limit=1", "limit=2", 1) + "&cursor=" + cursor).is(http.StatusOK)
			h.get(from+"&cursor=").problem(422, "invalid", "cursor")
		}
	})
}
