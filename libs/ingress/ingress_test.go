package ingress_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/ingress"
	"tributary.dev/libs/ingress/ingresstest"
	"tributary.dev/libs/seal"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// courier is a channel whose bodies are events as JSON, signed with HMAC-SHA256 over the body.
type courier struct{}

func (courier) Name() string { return "courier" }

func (courier) Verify(r *channel.Request, secrets channel.Secrets) error {
	given, _ := hex.DecodeString(r.Header.Get("X-Signature"))
	for _, s := range secrets {
		if s != "" && hmac.Equal(given, mac(s, r.Body)) {
			return nil
		}
	}
	return &channel.Error{Class: channel.ClassUnverified, Code: "signature"}
}

func (courier) Normalise(r *channel.Request) (channel.Result, error) {
	var in struct {
		Events   []json.RawMessage
		Unknown  []string
		SignedAt time.Time
	}
	if json.Unmarshal(r.Body, &in) != nil {
		return channel.Result{}, &channel.Error{Class: channel.ClassReject, Code: "not_json"}
	}
	out := channel.Result{Unknown: in.Unknown, SignedAt: in.SignedAt, Reply: channel.Reply{ContentType: "text/plain", Body: []byte("thanks")}}
	for _, raw := range in.Events {
		var e channel.Event
		if json.Unmarshal(raw, &e) != nil {
			out.Faults = append(out.Faults, "unreadable")
			continue
		}
		out.Events = append(out.Events, e)
	}
	return out, nil
}

func (courier) Challenge(r *channel.Request, secrets channel.Secrets) (channel.Reply, bool, error) {
	if r.Method == http.MethodGet {
		if len(secrets) == 0 || r.URL.Query().Get("token") != secrets[0] {
			return channel.Reply{}, false, errors.New("not ours")
		}
		return channel.Reply{Body: []byte(r.URL.Query().Get("challenge"))}, true, nil
	}
	return channel.Reply{Body: []byte("pong")}, string(r.Body) == `"ping"`, nil
}

func (courier) MessageTime(externalID string) time.Time {
	at, _ := time.Parse(time.RFC3339, externalID)
	return at
}

func mac(secret string, body []byte) []byte {
	h := hmac.New(sha256.New, []byte(secret))
	h.Write(body)
	return h.Sum(nil)
}

var byApp = channel.Features{
	Name: "courier", Title: "Courier", Ref: "app", BodyLimit: 1 << 20, TextLimit: 100, TextUnit: "characters",
	IdentityKind: "courier_user", ExternalID: ".+", LongestCall: 1,
}

const (
	today     = "secret-of-today"
	yesterday = "secret-of-yesterday"
	canary    = "Ottokar-Zwiebelfisch"
)

// newMesh has the app "app" with the accounts a1 and a2, of one workspace each.
func newMesh(t testing.TB, change ...func(*ingress.Config)) *ingresstest.Mesh {
	return connected(ingresstest.New(t, courier{}, byApp, nil, change...))
}

func connected(m *ingresstest.Mesh) *ingresstest.Mesh {
	m.Accounts.AddApp(&pb.App{Id: "app-id", Name: "app", Channel: "courier"}, today, yesterday)
	for _, n := range []string{"1", "2"} {
		m.Accounts.AddConnection(&pb.Connection{
			Id: "connection-" + n, WorkspaceId: "workspace-" + n, ExternalId: "a" + n, Channel: "courier", AppId: "app-id",
			Status: pb.ConnectionStatus_CONNECTION_STATUS_ACTIVE,
		}, map[string]string{})
	}
	return m
}

func direct(account, key string) channel.Event {
	who := &channel.Identity{Kind: "courier_user", Value: "user-" + canary}
	return channel.Event{
		Type: channel.TypeMessage, Account: account, Key: key, ExternalID: "m-" + key, Author: who, Contact: who,
		Content: &channel.Content{Text: "I am " + canary, Attachments: []channel.Attachment{{Ref: "0", Kind: "image", Name: canary + ".png", URL: "https://x.example/" + canary}}},
		Profile: &channel.Profile{Name: canary},
	}
}

func body(t testing.TB, events ...any) []byte {
	b, err := json.Marshal(map[string]any{"Events": events})
	require.NoError(t, err)
	return b
}

func signed(secret, ref string, body []byte) *http.Request {
	r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/webhooks/courier/"+ref, bytes.NewReader(body))
	r.Header.Set("X-Signature", hex.EncodeToString(mac(secret, body)))
	return r
}

func post(t testing.TB, m *ingresstest.Mesh, events ...any) int {
	return m.Do(signed(today, "app", body(t, events...))).Code
}

// open opens a part as a reader would.
func open(t testing.TB, m *ingresstest.Mesh, workspace string, part *pb.SealedPart, origin seal.Origin, into proto.Message) {
	t.Helper()
	opened, err := m.Seal.Open(t.Context(), pb.Purpose_PURPOSE_CONVERSATION, []seal.Sealed{{Workspace: workspace, Part: part, Origin: origin}})
	require.NoError(t, err)
	require.NoError(t, opened[0].Err)
	require.NoError(t, proto.Unmarshal(opened[0].Plain, into))
}

func part(t testing.TB, e *pb.ChannelEvent, c pb.Category) *pb.SealedPart {
	t.Helper()
	for _, p := range e.GetParts() {
		if p.GetCategory() == c {
			return p
		}
	}
	require.Fail(t, "no such part")
	return nil
}

func TestADirectMessageIsSealedAndPublished(t *testing.T) {
	m := newMesh(t)
	before := m.Clock.NowMicros()
	answer := m.Do(signed(today, "app", body(t, direct("a1", "k1"))))
	require.Equal(t, http.StatusOK, answer.Code)
	require.Equal(t, "text/plain", answer.Header().Get("Content-Type"))

	msgs, events := m.Publisher.Messages(), m.Publisher.Events(t)
	require.Len(t, msgs, 1)
	e := events[0]
	require.Equal(t, channel.EventID("connection-1", channel.TypeMessage, "k1", time.Time{}), e.GetId())
	require.Equal(t, "workspace-1", e.GetWorkspaceId())
	require.Equal(t, channel.MessageID("connection-1", "m-k1", time.Time{}), e.GetMessageId())
	require.Equal(t, e.GetContactSubject(), e.GetAuthorSubject())
	require.Equal(t, channel.DirectKey(e.GetContactSubject(), "connection-1"), e.GetConversationKey())
	require.Equal(t, e.GetConversationKey(), msgs[0].Key)
	require.Equal(t, "inbound.courier", msgs[0].Topic)
	require.True(t, e.GetOrderReceived())
	require.Equal(t, e.GetReceivedAtUs(), e.GetOrderUs())
	require.GreaterOrEqual(t, e.GetOrderUs(), before)
	headers := map[string]string{}
	for _, h := range msgs[0].Headers {
		headers[h.Key] = string(h.Value)
	}
	require.Equal(t, e.GetId(), headers["ce_id"])
	require.Equal(t, "tributary.message", headers["ce_type"])
	require.NotContains(t, string(msgs[0].Value)+msgs[0].Key, canary)

	var content pb.Content
	open(t, m, "workspace-1", part(t, e, pb.Category_CATEGORY_CONTENT), seal.OriginContent(e.GetMessageId(), e.GetOrderUs()), &content)
	require.Equal(t, "I am "+canary, content.GetText())
	require.Equal(t, canary+".png", content.GetAttachments()[0].GetName())
	require.Equal(t, e.GetAttachments()[0].GetId(), content.GetAttachments()[0].GetId())
	require.Equal(t, channel.AttachmentID(e.GetMessageId(), "0"), e.GetAttachments()[0].GetId())
	var profile pb.Profile
	open(t, m, "workspace-1", part(t, e, pb.Category_CATEGORY_PROFILE), seal.OriginProfile(e.GetAuthorSubject()), &profile)
	require.Equal(t, "user-"+canary, profile.GetIdentityValue())
	require.Equal(t, canary, profile.GetName())
}

func TestWhoIsMentionedIsSealedAsItCameAndNobodyIsLookedUp(t *testing.T) {
	who := func(name string) *channel.Identity { return &channel.Identity{Kind: "courier_user", Value: name} }
	says := func(name, key, text string, mentions ...channel.Mention) channel.Event {
		return channel.Event{Type: channel.TypeMessage, Account: "a1", Key: key, Order: 1, ExternalID: key, Author: who(name),
			Thread: channel.Thread{ID: "room", Group: true}, Content: &channel.Content{Text: text, Mentions: mentions}}
	}
	var many []channel.Mention
	for i := range 3600 {
		many = append(many, channel.Mention{Start: i, Length: 1, Identity: *who(strconv.Itoa(i))})
	}
	mention := says("alice", "1", strings.Repeat("x", 3600), many...)
	act := says("7", "2", "here I am")
	var contents []*pb.Content
	for _, events := range [][]any{{mention, act}, {act, mention}} {
		m := newMesh(t)
		for _, e := range events {
			require.Equal(t, http.StatusOK, post(t, m, e))
		}
		require.Zero(t, m.Registry.Calls("Find"))
		for _, e := range m.Publisher.Events(t) {
			if e.GetExternalId() == "1" {
				content := &pb.Content{}
				open(t, m, "workspace-1", part(t, e, pb.Category_CATEGORY_CONTENT), seal.OriginContent(e.GetMessageId(), 1), content)
				contents = append(contents, content)
			}
		}
	}
	require.Len(t, contents, 2)
	require.Len(t, contents[0].GetMentions(), 100)
	require.True(t, proto.Equal(contents[0], contents[1]), "known before or after: the same is sealed")
}

func TestEachTypeBecomesItsEvent(t *testing.T) {
	who := &channel.Identity{Kind: "courier_user", Value: "alice"}
	stranger := channel.Identity{Kind: "courier_user", Value: "nobody knows"}
	group := channel.Thread{ID: "room:1", Group: true}
	at := time.Date(2026, 3, 14, 15, 0, 0, 0, time.UTC)
	ext := at.Format(time.RFC3339)
	m := newMesh(t)
	require.Equal(t, http.StatusOK, post(t, m,
		channel.Event{Type: channel.TypeMessage, Account: "a1", Key: "1", IDTime: at, Order: at.UnixMicro(), ExternalID: ext, Author: who, Thread: group,
			Content:   &channel.Content{Text: "hi @alice @nobody", Mentions: []channel.Mention{{Start: 3, Length: 6, Identity: *who}, {Start: 10, Length: 7, Identity: stranger}, {Start: 90, Length: 9, Identity: *who}}},
			Technical: map[string]string{"ip": "192.0.2.7", "device": "phone"}},
		channel.Event{Type: channel.TypeEdit, Account: "a1", Key: "2", Order: 7_000_000, Target: ext, Author: who, Thread: group, Content: &channel.Content{Text: "hello"}},
		channel.Event{Type: channel.TypeDeletion, Account: "a1", Key: "3", Order: 8_000_000, Target: ext, Author: &stranger},
		channel.Event{Type: channel.TypeReaction, Account: "a1", Key: "4", Order: 9_000_000, Target: ext, Author: who, Emoji: "tada"},
		channel.Event{Type: channel.TypeReceipt, Account: "a1", Key: "5", Receipt: &channel.Receipt{MessageID: "ours", Part: 1, Attempt: 2, Status: channel.StatusFailed, Class: channel.ClassOptedOut, Code: "21610", Through: at},
			Thread: channel.Thread{ConversationKey: "0b8f2f0a-5d3f-5a9b-8d57-1d6d1c3c2b11"}},
		channel.Event{Type: channel.TypeRevocation, Account: "a1", Key: "6", Reason: "tokens_revoked"},
		channel.Event{Type: channel.TypeConsent, Account: "a1", Key: "7", Author: who, Contact: who, Consent: &channel.Consent{Action: "opt_out", Source: "keyword", WorkspaceWide: true}},
		channel.Event{Type: channel.TypeMessage, Account: "a1", Key: "8", ExternalID: "by-nobody", Outbound: true, Thread: group, Content: &channel.Content{Text: "from elsewhere"}},
	))
	events, msgs := m.Publisher.Events(t), m.Publisher.Messages()
	require.Len(t, events, 8)
	messageID := channel.MessageID("connection-1", ext, at)
	groupKey := channel.GroupKey("connection-1", "room:1")
	message, edit, deletion, reaction, receipt, revocation, consent, elsewhere := events[0], events[1], events[2], events[3], events[4], events[5], events[6], events[7]

	require.Equal(t, channel.EventID("connection-1", channel.TypeMessage, "1", at), message.GetId())
	require.Equal(t, messageID, message.GetMessageId())
	require.Equal(t, groupKey, message.GetConversationKey())
	require.Empty(t, message.GetContactSubject())
	require.Equal(t, at.UnixMicro(), message.GetOrderUs())
	require.False(t, message.GetOrderReceived())
	require.True(t, message.GetThread().GetGroup())
	var content pb.Content
	open(t, m, "workspace-1", part(t, message, pb.Category_CATEGORY_CONTENT), seal.OriginContent(messageID, at.UnixMicro()), &content)
	require.Len(t, content.GetMentions(), 2, "what is out of the text is not mentioned")
	require.Equal(t, []string{"alice", "nobody knows"}, []string{content.GetMentions()[0].GetIdentityValue(), content.GetMentions()[1].GetIdentityValue()})
	var technical pb.Technical
	open(t, m, "workspace-1", part(t, message, pb.Category_CATEGORY_TECHNICAL), seal.OriginTechnical(message.GetId()), &technical)
	require.Equal(t, "192.0.2.7", technical.GetIp())
	require.Equal(t, map[string]string{"device": "phone"}, technical.GetAttributes())

	require.Equal(t, messageID, edit.GetMessageId())
	open(t, m, "workspace-1", part(t, edit, pb.Category_CATEGORY_CONTENT), seal.OriginContent(messageID, 7_000_000), &content)
	require.Equal(t, "hello", content.GetText())

	require.Equal(t, messageID, deletion.GetMessageId())
	require.Empty(t, deletion.GetParts())
	require.Equal(t, channel.GroupKey("connection-1", ext), deletion.GetConversationKey())

	author, err := m.Seal.Find(t.Context(), []seal.Identity{{Workspace: "workspace-1", Kind: "courier_user", Value: "alice"}})
	require.NoError(t, err)
	require.Equal(t, seal.ReactionKey(author[0], messageID, "tada"), reaction.GetReaction().GetReactionKey())
	open(t, m, "workspace-1", part(t, reaction, pb.Category_CATEGORY_CONTENT), seal.OriginReaction(reaction.GetReaction().GetReactionKey(), 9_000_000), &content)
	require.Equal(t, "tada", content.GetEmoji())

	require.Equal(t, "0b8f2f0a-5d3f-5a9b-8d57-1d6d1c3c2b11", msgs[4].Key)
	require.True(t, proto.Equal(&pb.Receipt{
		MessageId: "ours", Part: 1, Attempt: 2, Status: pb.Status_STATUS_FAILED, ErrorClass: pb.ErrorClass_ERROR_CLASS_OPTED_OUT,
		ErrorCode: "21610", ThroughUs: at.UnixMicro(),
	}, receipt.GetReceipt()))

	require.Equal(t, "connection-1", msgs[5].Key)
	require.Equal(t, "tokens_revoked", revocation.GetReason())
	require.True(t, consent.GetConsent().GetWorkspaceWide())
	require.Equal(t, channel.DirectKey(consent.GetContactSubject(), "connection-1"), consent.GetConversationKey())

	require.Equal(t, pb.Direction_DIRECTION_OUTBOUND, elsewhere.GetDirection())
	require.Empty(t, elsewhere.GetAuthorSubject())
	require.NotEmpty(t, part(t, elsewhere, pb.Category_CATEGORY_CONTENT).GetSubjectId(), "what nobody in particular wrote lies under the group's own subject")

	found, err := m.Seal.Find(t.Context(), []seal.Identity{{Workspace: "workspace-1", Kind: "courier_user", Value: stranger.Value}})
	require.NoError(t, err)
	require.Equal(t, pb.SubjectState_SUBJECT_STATE_NONE, found[0].State, "a mention or a deletion makes nobody")
}

func TestReceiptsAndProfilesOfStrangersAreDropped(t *testing.T) {
	m := newMesh(t)
	who := &channel.Identity{Kind: "courier_user", Value: "stranger"}
	events := []any{
		channel.Event{Type: channel.TypeReceipt, Account: "a1", Key: "1", Contact: who, Target: "x", Receipt: &channel.Receipt{Status: channel.StatusRead}},
		channel.Event{Type: channel.TypeProfile, Account: "a1", Key: "2", Author: who, Profile: &channel.Profile{Name: "N"}},
		channel.Event{Type: channel.TypeMembership, Account: "a1", Key: "3", Author: who},
		channel.Event{Type: channel.TypeConsent, Account: "a1", Key: "4", Author: who, Contact: who, Consent: &channel.Consent{Action: "opt_out", Source: "provider"}},
	}
	require.Equal(t, http.StatusOK, post(t, m, events...))
	require.Empty(t, m.Publisher.Messages())
	require.Zero(t, m.Registry.Subjects())

	m.Known(t, "workspace-1", *who)
	require.Equal(t, http.StatusOK, post(t, m, events...))
	require.Len(t, m.Publisher.Messages(), 4)
	require.Equal(t, 1, m.Registry.Subjects())
}

// Who opts in acts; who opts out by a word acts by the message that it is.
func TestWhoOptsInBecomesKnown(t *testing.T) {
	m := newMesh(t)
	who := func(value string) *channel.Identity { return &channel.Identity{Kind: "courier_user", Value: value} }
	require.Equal(t, http.StatusOK, post(t, m,
		channel.Event{Type: channel.TypeConsent, Account: "a1", Key: "1", Author: who("in"), Contact: who("in"), Consent: &channel.Consent{Action: "opt_in", Source: "keyword"}},
		channel.Event{Type: channel.TypeMessage, Account: "a1", Key: "2", ExternalID: "stop", Author: who("out"), Contact: who("out"), Content: &channel.Content{Text: "STOP"}},
		channel.Event{Type: channel.TypeConsent, Account: "a1", Key: "2", Author: who("out"), Contact: who("out"), Consent: &channel.Consent{Action: "opt_out", Source: "keyword"}},
	))
	require.Len(t, m.Publisher.Messages(), 3)
	require.Equal(t, 2, m.Registry.Subjects())
}

func TestRefusals(t *testing.T) {
	limited := func(c *ingress.Config) { c.MaxRequests = 4 }
	sound := body(t, direct("a1", "k"))
	for name, c := range map[string]struct {
		request *http.Request
		status  int
		code    string
	}{
		"a bad signature":                   {signed("wrong", "app", sound), 401, "unverified"},
		"garbage under a bad signature":     {signed("wrong", "app", []byte("{")), 401, "unverified"},
		"not what it promises":              {signed(today, "app", []byte("{")), 400, "not_json"},
		"a ref that nobody has":             {signed(today, "other", sound), 404, "not_found"},
		"a body that is too large":          {signed(today, "app", bytes.Repeat([]byte(" "), int(byApp.BodyLimit)+1)), 413, "too_large"},
		"a body that is too large, chunked": {unsized(signed(today, "app", bytes.Repeat([]byte(" "), int(byApp.BodyLimit)+1))), 413, "too_large"},
		"a handshake that is not ours":      {httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/webhooks/courier/app?token=x", nil), 403, "challenge"},
		"another method":                    {httptest.NewRequestWithContext(context.Background(), http.MethodPut, "/webhooks/courier/app", nil), 405, "method_not_allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMesh(t, limited)
			answer := m.Do(c.request)
			require.Equal(t, c.status, answer.Code)
			var problem struct{ Code string }
			require.NoError(t, json.NewDecoder(answer.Body).Decode(&problem))
			require.Equal(t, c.code, problem.Code)
			require.Empty(t, m.Publisher.Messages())
		})
	}
}

func unsized(r *http.Request) *http.Request {
	r.ContentLength = -1
	return r
}

func TestTwoSecretsWhileRotated(t *testing.T) {
	m := newMesh(t)
	for _, secret := range []string{today, yesterday} {
		require.Equal(t, http.StatusOK, m.Do(signed(secret, "app", body(t, direct("a1", secret)))).Code)
	}
	require.Len(t, m.Publisher.Messages(), 2)
}

func TestChallenges(t *testing.T) {
	m := newMesh(t)
	get := m.Do(httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/webhooks/courier/app?token="+today+"&challenge=c", nil))
	require.Equal(t, http.StatusOK, get.Code)
	ping := m.Do(signed(today, "app", []byte(`"ping"`)))
	require.Equal(t, http.StatusOK, ping.Code)
	require.Equal(t, http.StatusUnauthorized, m.Do(signed("wrong", "app", []byte(`"ping"`))).Code)
	require.Empty(t, m.Publisher.Messages())
}

func TestOneBadItemDoesNotLoseTheRest(t *testing.T) {
	m := newMesh(t)
	require.Equal(t, http.StatusOK, post(t, m, direct("a1", "1"), "no event", direct("a2", "2")))
	require.Equal(t, []string{"workspace-1", "workspace-2"}, workspaces(m.Publisher.Events(t)))
	require.Equal(t, 1, m.Registry.Calls("Acquire"), "one call for one request")
}

func workspaces(events []*pb.ChannelEvent) (all []string) {
	for _, e := range events {
		all = append(all, e.GetWorkspaceId())
	}
	return all
}

func TestAccountsThatAreNotConnected(t *testing.T) {
	t.Run("confirmed unknown is 2xx, and the others go on", func(t *testing.T) {
		m := newMesh(t)
		require.Equal(t, http.StatusOK, post(t, m, direct("nobody's", "1"), direct("a1", "2")))
		require.Equal(t, []string{"workspace-1"}, workspaces(m.Publisher.Events(t)))
		require.Equal(t, 1, m.Accounts.Confirms())
	})
	t.Run("not confirmed is 503, and the others go on", func(t *testing.T) {
		m := newMesh(t)
		m.Accounts.SetAway(true)
		require.Equal(t, http.StatusServiceUnavailable, post(t, m, direct("nobody's", "1"), direct("a1", "2")))
		require.Equal(t, []string{"workspace-1"}, workspaces(m.Publisher.Events(t)))
	})
	t.Run("connected a moment ago is taken in", func(t *testing.T) {
		m := newMesh(t)
		m.Accounts.OnConfirm(func() {
			m.Accounts.AddConnection(&pb.Connection{Id: "c3", WorkspaceId: "workspace-3", ExternalId: "a3", AppId: "app-id", Status: pb.ConnectionStatus_CONNECTION_STATUS_ACTIVE}, nil)
		})
		require.Equal(t, http.StatusOK, post(t, m, direct("a3", "1")))
		require.Equal(t, []string{"workspace-3"}, workspaces(m.Publisher.Events(t)))
	})
	t.Run("disabled is 2xx", func(t *testing.T) {
		m := newMesh(t)
		m.Accounts.AddConnection(&pb.Connection{Id: "connection-1", WorkspaceId: "workspace-1", ExternalId: "a1", AppId: "app-id", Status: pb.ConnectionStatus_CONNECTION_STATUS_DISABLED}, nil)
		require.Equal(t, http.StatusOK, post(t, m, direct("a1", "1")))
		require.Empty(t, m.Publisher.Messages())
		require.Zero(t, m.Accounts.Confirms())
	})
	t.Run("an unknown ref that can't be confirmed is 503", func(t *testing.T) {
		m := newMesh(t)
		m.Accounts.SetAway(true)
		require.Equal(t, http.StatusServiceUnavailable, m.Do(signed(today, "other", body(t))).Code)
	})
	t.Run("another app's secret says nothing of this account", func(t *testing.T) {
		m := newMesh(t)
		m.Accounts.AddApp(&pb.App{Id: "mallory", Name: "mallory", WorkspaceId: "workspace-2"}, "hers")
		require.Equal(t, http.StatusOK, m.Do(signed("hers", "mallory", body(t, direct("a1", "1")))).Code)
		require.Empty(t, m.Publisher.Messages())
	})
	t.Run("secrets that don't open are 503", func(t *testing.T) {
		m := newMesh(t)
		m.Accounts.AddApp(&pb.App{Id: "sealed", Name: "sealed"})
		require.Equal(t, http.StatusServiceUnavailable, m.Do(signed("", "sealed", body(t))).Code)
	})
}

// Who granted accounts is named once, and it is an event of each: of every workspace's that is concerned.
func TestWhatAGrantorDoesIsAnEventOfAllTheyGranted(t *testing.T) {
	granted := func(id, app string, status pb.ConnectionStatus) *pb.Connection {
		return &pb.Connection{Id: id, WorkspaceId: "workspace of " + id, ExternalId: "account of " + id, AppId: app, Grantor: "g", Status: status}
	}
	const active = pb.ConnectionStatus_CONNECTION_STATUS_ACTIVE
	withdrawn := channel.Event{Type: channel.TypeRevocation, Grantor: "g", Key: "1", Reason: "deauthorised"}

	m := newMesh(t)
	m.Accounts.AddConnection(granted("g1", "app-id", active), nil)
	m.Accounts.AddConnection(granted("g2", "app-id", pb.ConnectionStatus_CONNECTION_STATUS_REAUTHORISE), nil)
	m.Accounts.AddConnection(granted("others", "another-app", active), nil)
	m.Accounts.AddConnection(granted("ended", "app-id", pb.ConnectionStatus_CONNECTION_STATUS_DISABLED), nil)
	m.Accounts.OnConfirm(func() { m.Accounts.AddConnection(granted("new", "app-id", active), nil) })
	require.Equal(t, http.StatusOK, post(t, m, withdrawn))
	events := m.Publisher.Events(t)
	require.Len(t, events, 3, "one that the table had not read yet too, and none of another app's or of what was disconnected")
	ids := map[string]string{}
	for _, e := range events {
		ids[e.GetConnectionId()] = e.GetId()
		require.Equal(t, "workspace of "+e.GetConnectionId(), e.GetWorkspaceId())
	}
	require.Len(t, ids, 3, "each has an id of its own")

	require.Equal(t, http.StatusOK, post(t, m, withdrawn))
	for _, e := range m.Publisher.Events(t)[3:] {
		require.Equal(t, ids[e.GetConnectionId()], e.GetId(), "a replay has the same ids")
	}

	t.Run("who granted nothing is nobody, and answered", func(t *testing.T) {
		m := newMesh(t)
		require.Equal(t, http.StatusOK, post(t, m, withdrawn))
		require.Empty(t, m.Publisher.Messages())
	})
	t.Run("what is not confirmed is 503", func(t *testing.T) {
		m := newMesh(t)
		m.Accounts.AddConnection(granted("g1", "app-id", active), nil)
		m.Accounts.SetAway(true)
		require.Equal(t, http.StatusServiceUnavailable, post(t, m, withdrawn))
		require.Empty(t, m.Publisher.Messages())
	})
}

func TestRefsThatNameAConnection(t *testing.T) {
	features := byApp
	features.Ref, features.SignedWith = "connection", []string{"token", "previous_token"}
	m := ingresstest.New(t, courier{}, features, nil)
	with := func(status pb.ConnectionStatus, sealed []byte, credentials map[string]string) {
		m.Accounts.AddConnection(&pb.Connection{Id: "c", WorkspaceId: "w", Status: status, SealedCredentials: sealed}, credentials)
	}
	do := func(secret, key string) int { return m.Do(signed(secret, "c", body(t, direct("", key)))).Code }

	with(pb.ConnectionStatus_CONNECTION_STATUS_ACTIVE, []byte("x"), map[string]string{"token": today, "previous_token": yesterday, "other": "other"})
	require.Equal(t, http.StatusOK, do(today, "1"))
	require.Equal(t, http.StatusOK, do(yesterday, "2"))
	require.Equal(t, http.StatusUnauthorized, do("other", "3"))
	require.Len(t, m.Publisher.Messages(), 2)

	with(pb.ConnectionStatus_CONNECTION_STATUS_REAUTHORISE, []byte("x"), map[string]string{"token": today})
	require.Equal(t, http.StatusOK, do(today, "4"), "a token that ended does not end what comes in")
	require.Len(t, m.Publisher.Messages(), 3)

	with(pb.ConnectionStatus_CONNECTION_STATUS_ACTIVE, []byte("x"), nil)
	require.Equal(t, http.StatusServiceUnavailable, do(today, "5"))
	with(pb.ConnectionStatus_CONNECTION_STATUS_DISABLED, nil, nil)
	require.Equal(t, http.StatusOK, do(today, "6"))
	with(pb.ConnectionStatus_CONNECTION_STATUS_REVOKED, nil, nil)
	require.Equal(t, http.StatusOK, do(today, "7"))
	require.Len(t, m.Publisher.Messages(), 3)
}

func TestTheURLAsTheProviderSawIt(t *testing.T) {
	for name, c := range map[string]struct {
		remote, public string
		header         http.Header
		want           string
	}{
		"the request's own":         {"203.0.113.9:1", "", nil, "http://inside.example/webhooks/courier/app?token=x"},
		"the configured one":        {"203.0.113.9:1", "https://mesh.example/in/", nil, "https://mesh.example/in/webhooks/courier/app?token=x"},
		"a trusted proxy's":         {"10.1.2.3:1", "https://mesh.example", http.Header{"X-Forwarded-Proto": {"https, http"}, "X-Forwarded-Host": {"Out.example, in"}}, "https://out.example/webhooks/courier/app?token=x"},
		"a stranger's is not taken": {"203.0.113.9:1", "https://mesh.example", http.Header{"X-Forwarded-Host": {"evil.example"}}, "https://mesh.example/webhooks/courier/app?token=x"},
		"nonsense is not taken":     {"10.1.2.3:1", "https://mesh.example", http.Header{"X-Forwarded-Proto": {"gopher"}}, "https://mesh.example/webhooks/courier/app?token=x"},
	} {
		t.Run(name, func(t *testing.T) {
			seen := &seer{}
			m := ingresstest.New(t, seen, byApp, nil, func(cfg *ingress.Config) {
				cfg.PublicURL, cfg.TrustedProxies = c.public, []string{"10.0.0.0/8"}
			})
			m.Accounts.AddApp(&pb.App{Name: "app"}, today)
			r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, "http://inside.example/webhooks/courier/app?token=x", strings.NewReader(""))
			r.RemoteAddr = c.remote
			for k, v := range c.header {
				r.Header[k] = v
			}
			m.Do(r)
			require.Equal(t, c.want, seen.url)
		})
	}
}

// seer remembers the URL it was to verify.
type seer struct {
	courier
	url string
}

func (s *seer) Verify(r *channel.Request, _ channel.Secrets) error {
	s.url = r.URL.String()
	return errors.New("seen")
}

func TestConfigFaultsAreNamedAllAtOnce(t *testing.T) {
	err := ingress.Config{PublicURL: "mesh", TrustedProxies: []string{"everywhere"}}.Validate()
	for _, setting := range []string{"DataDir", "PublicURL", "TrustedProxies", "MaxRequests", "BodyBytes", "SpoolBytes", "DrainPause"} {
		require.ErrorContains(t, err, setting)
	}
	require.NoError(t, ingress.Defaults("x", 35<<20).Validate())
}
