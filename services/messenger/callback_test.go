package messenger

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/channel/standin"
	"tributary.dev/libs/ingress/ingresstest"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// asked is a callback's request with a form.
func asked(query, form string) *channel.Request {
	return &channel.Request{
		Method: http.MethodPost, Header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, Body: []byte(form), VerifyToken: "let me in",
		URL: &url.URL{Scheme: "https", Host: "mesh.example", Path: "/webhooks/messenger/meta", RawQuery: query},
	}
}

func encoded(payload string) string { return base64.RawURLEncoding.EncodeToString([]byte(payload)) }

// form of a payload, signed.
func form(secret, payload string) string {
	return "signed_request=" + standin.GraphSignedRequest(secret, encoded(payload))
}

const wished = `{"algorithm":"HMAC-SHA256","expires":1773504565,"issued_at":1773500965,"user_id":"` + user + `"}`

func refused(t *testing.T, r *channel.Request, secrets ...string) {
	t.Helper()
	err := New(*DefaultConfig(), http.DefaultClient).Verify(r, secrets)
	var e *channel.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, channel.ClassUnverified, e.Class)
	assert.NotContains(t, err.Error(), user)
}

// The signature as any tool makes it, of the payload in Meta's documentation:
// openssl dgst -sha256 -hmac app-secret -binary | basenc --base64url.
func TestVerifyAKnownSignedRequest(t *testing.T) {
	const (
		signature = "jrp12ZijqTy2-9NDSsFcrvW7Yz9HUqinb-TuSFEekhs"
		payload   = "eyJhbGdvcml0aG0iOiJITUFDLVNIQTI1NiIsImV4cGlyZXMiOjEyOTE4NDA0MDAsImlzc3VlZF9hdCI6MTI5MTgzNjgwMCwidXNlcl9pZCI6IjIxODQ3MSJ9"
	)
	a := New(*DefaultConfig(), http.DefaultClient)
	for _, name := range []string{deauthorise, dataDeletion} {
		r := asked("callback="+name, "signed_request="+signature+"."+payload)
		require.NoError(t, a.Verify(r, channel.Secrets{"tomorrow's", "app-secret"}), "while a secret is rotated, either")
		result, err := a.Normalise(r)
		require.NoError(t, err)
		require.Equal(t, channel.Grantor("let me in", "218471"), result.Events[0].Grantor)
		require.Equal(t, time.Unix(1291836800, 0).UTC(), result.Events[0].IDTime)
	}
	for what, signed := range map[string]string{
		"nothing": "", "no signature": "." + payload, "no payload": signature, "an empty payload": signature + ".",
		"a signature cut short": signature[:42] + "." + payload, "another signature": "A" + signature[1:] + "." + payload,
		"the last bits of a signature changed": signature[:42] + "t." + payload, "a signature with padding": signature + "%3D." + payload,
		"a signature in another alphabet": strings.NewReplacer("-", "%2B", "_", "%2F").Replace(signature) + "." + payload,
		"a line break":                    signature[:10] + "%0A" + signature[10:] + "." + payload, "a signature in hex": strings.Repeat("ab", 32) + "." + payload,
		"a payload with more": signature + "." + payload + "A", "a third part": signature + "." + payload + ".x",
	} {
		t.Run(what, func(t *testing.T) { refused(t, asked("callback=deauthorise", "signed_request="+signed), "app-secret") })
	}
}

// A signature counts for what it was made of, in the algorithm that is known, under a secret that is one.
func TestWhatASignedRequestMustSay(t *testing.T) {
	for what, payload := range map[string]string{
		"another algorithm": `{"algorithm":"HMAC-SHA1","issued_at":1773500965,"user_id":"1"}`, "none": `{"algorithm":"none","issued_at":1773500965,"user_id":"1"}`,
		"no algorithm": `{"issued_at":1773500965,"user_id":"1"}`, "no object": `["HMAC-SHA256"]`, "no JSON": "HMAC-SHA256", "nothing": "",
	} {
		t.Run(what, func(t *testing.T) { refused(t, asked("callback=data_deletion", form("secret", payload)), "secret") })
	}
	good := func() *channel.Request { return asked("callback=data_deletion", form("secret", wished)) }
	require.NoError(t, New(*DefaultConfig(), http.DefaultClient).Verify(good(), channel.Secrets{"secret"}))
	refused(t, good(), "another")
	refused(t, good())
	refused(t, asked("callback=data_deletion", form("", wished)), "")
	// The payload decoded is what others sign; Meta signs it encoded.
	decoded, _, _ := strings.Cut(standin.GraphSignedRequest("secret", wished), ".")
	refused(t, asked("callback=data_deletion", "signed_request="+decoded+"."+encoded(wished)), "secret")
	padded := base64.URLEncoding.EncodeToString([]byte(wished + strings.Repeat(" ", 4-len(wished)%3)))
	require.True(t, strings.HasSuffix(padded, "="))
	refused(t, asked("callback=data_deletion", "signed_request="+url.QueryEscape(standin.GraphSignedRequest("secret", padded))), "secret")

	for what, payload := range map[string]string{
		"no user": `{"algorithm":"HMAC-SHA256","issued_at":1773500965}`, "a user who is none": `{"algorithm":"HMAC-SHA256","issued_at":1773500965,"user_id":"CANARY"}`,
		"no time": `{"algorithm":"HMAC-SHA256","user_id":"1"}`, "a time that is none": `{"algorithm":"HMAC-SHA256","issued_at":"CANARY","user_id":"1"}`,
	} {
		t.Run(what, func(t *testing.T) {
			result, err := New(*DefaultConfig(), http.DefaultClient).Normalise(asked("callback=deauthorise", form("secret", payload)))
			require.Error(t, err)
			assert.NotContains(t, err.Error(), "CANARY")
			assert.Empty(t, result)
		})
	}
}

// Each address takes what is signed for it, and nothing else.
func TestWebhooksAndCallbacksDoNotPassForEachOther(t *testing.T) {
	a := New(*DefaultConfig(), http.DefaultClient)
	webhook := standin.GraphWebhook(page, at, standin.MessengerMessage(page, ada, "m_1", at, "hello"))
	for _, query := range []string{"callback=deauthorise", "callback=data_deletion", "callback=", "callback=other", "callback=other&callback=deauthorise"} {
		r := asked(query, string(webhook))
		r.Header = standin.GraphHeader("secret", webhook)
		refused(t, r, "secret")
		_, err := a.Normalise(r)
		require.Error(t, err)
	}
	for _, query := range []string{"callback=", "callback=other", "callback=Deauthorise"} {
		refused(t, asked(query, form("secret", wished)), "secret")
		_, err := a.Normalise(asked(query, form("secret", wished)))
		require.Error(t, err)
	}
	for _, query := range []string{"", "Callback=deauthorise", "x=callback"} {
		r := asked(query, form("secret", wished))
		refused(t, r, "secret")
		r.Header.Set("X-Hub-Signature-256", standin.GraphHeader("secret", r.Body).Get("X-Hub-Signature-256"))
		require.NoError(t, a.Verify(r, channel.Secrets{"secret"}))
		_, err := a.Normalise(r)
		require.ErrorContains(t, err, "not JSON")
	}
	r := asked("callback=deauthorise", form("secret", wished))
	r.Header.Set("Content-Type", "application/json")
	_, err := a.Normalise(r)
	require.ErrorContains(t, err, "not a form")
}

func TestOnlyASignedRequestIsACallback(t *testing.T) {
	a := New(*DefaultConfig(), http.DefaultClient)
	good := form("secret", wished)
	want, err := a.Normalise(asked("callback=data_deletion", good))
	require.NoError(t, err)
	more := asked("callback=data_deletion", "locale=de_CH&"+good+"&user_id=7")
	require.NoError(t, a.Verify(more, channel.Secrets{"secret"}))
	got, err := a.Normalise(more)
	require.NoError(t, err)
	require.Equal(t, want, got, "nothing is read of what is not signed")
	for what, body := range map[string]string{
		"two": good + "&" + good, "one in the address alone": "", "one too long": good + "&x=" + strings.Repeat("x", maxCallback),
		"a form that is none": good + "&%zz",
	} {
		t.Run(what, func(t *testing.T) {
			refused(t, asked("callback=data_deletion&signed_request="+strings.TrimPrefix(good, "signed_request="), body), "secret")
		})
	}
}

// deletion asks for the deletion of a user's data, and gives what Meta is answered.
func deletion(t *testing.T, token, who string, at time.Time) (address *url.URL, code string) {
	t.Helper()
	_, body := standin.GraphCallback("secret", who, at)
	r := asked("callback=data_deletion", string(body))
	r.VerifyToken = token
	result, err := New(*DefaultConfig(), http.DefaultClient).Normalise(r)
	require.NoError(t, err)
	require.Equal(t, "application/json", result.Reply.ContentType)
	return answered(t, result.Reply.Body)
}

func answered(t *testing.T, body []byte) (address *url.URL, code string) {
	t.Helper()
	var said map[string]string
	require.NoError(t, json.Unmarshal(body, &said))
	require.Len(t, said, 2)
	address, err := url.Parse(said["url"])
	require.NoError(t, err)
	require.Equal(t, said["confirmation_code"], address.Query().Get("confirmation"))
	return address, said["confirmation_code"]
}

func TestAConfirmationCodeTellsItsRequestAlone(t *testing.T) {
	address, code := deletion(t, "let me in", user, at)
	require.Equal(t, "https://mesh.example/webhooks/messenger/meta?confirmation="+code, address.String())
	require.Regexp(t, `^[A-Z2-7]{52}$`, code)
	raw, err := codes.DecodeString(code)
	require.NoError(t, err)
	require.NotContains(t, string(raw), user)
	_, again := deletion(t, "let me in", user, at)
	require.Equal(t, code, again, "asked again it is the same")

	seen := map[string]bool{code: true}
	for _, other := range []func() (*url.URL, string){
		func() (*url.URL, string) { return deletion(t, "let me in", "10220000000000002", at) },
		func() (*url.URL, string) { return deletion(t, "let me in", user, at.Add(time.Second)) },
		func() (*url.URL, string) { return deletion(t, "another app's", user, at) },
	} {
		_, code := other()
		require.False(t, seen[code])
		seen[code] = true
	}

	reply, ok, err := handshake(http.MethodGet, "let me in", "confirmation="+code)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, "text/html; charset=utf-8", reply.ContentType)
	for _, part := range []string{`<html lang="en">`, `<time datetime="2026-03-14T15:09:25Z">14 March 2026, 15:09 UTC</time>`, code, "does not know whether it has done so"} {
		require.Contains(t, string(reply.Body), part)
	}
	no := func(token, code string) {
		t.Helper()
		reply, ok, err := handshake(http.MethodGet, token, "confirmation="+url.QueryEscape(code))
		require.Error(t, err)
		require.False(t, ok)
		require.Empty(t, reply)
	}
	for i := range code {
		for _, c := range "A7B" {
			if altered := code[:i] + string(c) + code[i+1:]; altered != code {
				no("let me in", altered)
			}
		}
	}
	for _, altered := range []string{"1", strings.ToLower(code), code + "A", code[:51], code + "====", code + "\n", "<script>", strings.Repeat("A", 52)} {
		no("let me in", altered)
	}
	no("another app's", code)
	_, unkeyed := deletion(t, "", user, at)
	no("", unkeyed)
	_, ok, err = handshake(http.MethodPost, "let me in", "confirmation="+code)
	require.NoError(t, err)
	require.False(t, ok, "a POST is no question")
}

// The whole way: what Meta posts is answered, told of each Page that the person granted, and of nobody else's; their id
// shows nowhere. That somebody granted nothing changes no answer.
func TestCallbacksThroughAnIngress(t *testing.T) {
	features, ok := channel.Lookup("messenger")
	require.True(t, ok)
	var log bytes.Buffer
	m := ingresstest.New(t, New(*DefaultConfig(), http.DefaultClient), features, &log)
	m.Accounts.AddApp(&pb.App{Id: "app", Channel: "messenger", Name: "meta", ExternalId: ourApp}, "secret")
	for id, grantor := range map[string]string{"c1": channel.Grantor("", user), "c2": channel.Grantor("", user), "c3": channel.Grantor("", ada), "c4": ""} {
		m.Accounts.AddConnection(&pb.Connection{
			Id: id, WorkspaceId: "w-" + id, Channel: "messenger", ExternalId: "page of " + id, AppId: "app", Grantor: grantor,
			Status: pb.ConnectionStatus_CONNECTION_STATUS_ACTIVE,
		}, nil)
	}
	call := func(name, secret, who string) *httptest.ResponseRecorder {
		header, body := standin.GraphCallback(secret, who, at)
		r := httptest.NewRequest(http.MethodPost, "/webhooks/messenger/meta?callback="+name, bytes.NewReader(body))
		r.Header = header
		return m.Do(r)
	}
	require.Equal(t, http.StatusUnauthorized, call(deauthorise, "another", user).Code)
	require.Equal(t, http.StatusUnauthorized, call("erase", "secret", user).Code)
	require.Empty(t, m.Publisher.Messages())

	taken := call(deauthorise, "secret", user)
	require.Equal(t, http.StatusOK, taken.Code)
	require.Empty(t, taken.Body.String())
	wanted := call(dataDeletion, "secret", user)
	require.Equal(t, http.StatusOK, wanted.Code)
	_, code := answered(t, wanted.Body.Bytes())

	ids := map[string]bool{}
	for i, e := range m.Publisher.Events(t) {
		require.Contains(t, []string{"c1", "c2"}, e.GetConnectionId())
		require.Equal(t, "w-"+e.GetConnectionId(), e.GetWorkspaceId())
		require.Empty(t, e.GetParts())
		require.NotContains(t, string(m.Publisher.Messages()[i].Value), user)
		ids[e.GetType().String()+" "+e.GetReason()+" "+e.GetId()] = true
	}
	require.Len(t, ids, 4, "each of the two is told of both")
	again := call(dataDeletion, "secret", user)
	require.Equal(t, wanted.Body.String(), again.Body.String())
	for _, e := range m.Publisher.Events(t) {
		ids[e.GetType().String()+" "+e.GetReason()+" "+e.GetId()] = true
	}
	require.Len(t, ids, 4, "a replay is the same events")

	before := len(m.Publisher.Messages())
	nobody := call(dataDeletion, "secret", "10229999999999999")
	require.Equal(t, http.StatusOK, nobody.Code)
	_, other := answered(t, nobody.Body.Bytes())
	require.Len(t, m.Publisher.Messages(), before)
	require.NotEqual(t, code, other)
	require.NotContains(t, log.String(), user)
}
