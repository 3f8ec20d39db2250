package api_test

import (
	"encoding/base64"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/access"
	"tributary.dev/libs/seal"
	pb "tributary.dev/proto/gen/tributary/v1"
)

func TestLettersAreOpenedForTheirWorkspaceAlone(t *testing.T) { each(t, lettersAreOpened) }

func lettersAreOpened(t *testing.T, h *house) {
	p := h.person(us, "+41791234567", "", 1)
	part := func(c pb.Category, o seal.Origin, m proto.Message) *pb.SealedPart {
		return &pb.SealedPart{SubjectId: p.ID, KeyId: p.KeyID, Category: c, Ciphertext: h.seal(p.Subject, c, o, m)}
	}
	letter := func(kind string, m proto.Message) string {
		value, err := proto.Marshal(m)
		require.NoError(t, err)
		return `{"` + kind + `":"` + base64.StdEncoding.EncodeToString(value) + `"}`
	}
	event := &pb.ChannelEvent{Id: "e", WorkspaceId: us, MessageId: "m", OrderUs: 7, Parts: []*pb.SealedPart{
		part(pb.Category_CATEGORY_CONTENT, seal.OriginContent("m", 7), &pb.Content{Text: "hello", Html: `<p onclick="alert(1)">hello</p>`}),
		part(pb.Category_CATEGORY_PROFILE, seal.OriginProfile(p.ID), &pb.Profile{Name: "Anna"}),
		part(pb.Category_CATEGORY_TECHNICAL, seal.OriginTechnical("another"), &pb.Technical{Ip: "192.0.2.1"}),
	}}
	command := &pb.Command{Id: "c", WorkspaceId: us, MessageId: "m", Part: 1, Attempt: 2,
		Content: part(pb.Category_CATEGORY_CONTENT, seal.OriginCommand("m", 1, 2), &pb.Content{Text: "an answer"})}

	h.as(access.Caller{KeyID: "k", WorkspaceID: us, Role: access.Admin, Scopes: access.RoleScopes(access.Admin)})
	require.Equal(t, http.StatusForbidden, h.do(http.MethodPost, "/v1/letters/open", letter("event", event)).Code, "not without the scope")

	h.as(access.Caller{KeyID: "k", WorkspaceID: us, Scopes: []string{access.LettersOpen}})
	opened := h.do(http.MethodPost, "/v1/letters/open", letter("event", event))
	require.Equal(t, http.StatusOK, opened.Code)
	require.JSONEq(t, `{"parts":[
		{"category":"content","subject_id":"`+p.ID+`","state":"open","opened":{"text":"hello","html":"<p>hello</p>"}},
		{"category":"profile","subject_id":"`+p.ID+`","state":"open","opened":{"name":"Anna"}},
		{"category":"technical","subject_id":"`+p.ID+`","state":"unreadable"}]}`, opened.Body.String())
	answered := h.do(http.MethodPost, "/v1/letters/open", letter("command", command))
	require.Equal(t, http.StatusOK, answered.Code)
	require.Contains(t, answered.Body.String(), "an answer")

	for what, body := range map[string]string{"both": `{"event":"AA==","command":"AA=="}`, "neither": `{}`} {
		require.Equal(t, http.StatusUnprocessableEntity, h.do(http.MethodPost, "/v1/letters/open", body).Code, what)
	}
	require.Contains(t, h.do(http.MethodPost, "/v1/letters/open", `{"event":"!!"}`).Body.String(), "must be base64")
	require.Equal(t, http.StatusNotFound, h.do(http.MethodPost, "/v1/letters/open", `{"event":"/w=="}`).Code, "no event")
	event.WorkspaceId = others
	require.Equal(t, http.StatusNotFound, h.do(http.MethodPost, "/v1/letters/open", letter("event", event)).Code, "another workspace's")
	require.NotContains(t, h.logs.String(), "hello")
	require.Contains(t, h.logs.String(), "a dead letter was opened")
}
