package access_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/access"
	"tributary.dev/libs/bus"
	"tributary.dev/libs/bus/bustest"
	pb "tributary.dev/proto/gen/tributary/v1"
)

func TestKeysHaveAFormAndNothingElse(t *testing.T) {
	id, text, hash := access.NewKey()
	gotID, secret, ok := access.Parse(text)
	require.True(t, ok)
	require.Equal(t, id, gotID)
	require.Equal(t, hash, access.Hash(secret))
	require.Len(t, secret, 64)
	for _, bad := range []string{"", "trb_", "trb_a_b", text + "0", strings.TrimPrefix(text, "trb_"), "xoxb_" + id + "_" + secret} {
		_, _, ok := access.Parse(bad)
		require.False(t, ok, bad)
	}
	_, other, _ := access.NewKey()
	require.NotEqual(t, text, other)
}

func TestRolesImplyScopesAndExplicitOnesNarrow(t *testing.T) {
	owner := access.RoleScopes(access.Owner)
	require.Subset(t, owner, access.RoleScopes(access.Admin))
	require.Subset(t, access.RoleScopes(access.Admin), access.RoleScopes(access.Agent))
	require.NotContains(t, access.RoleScopes(access.Admin), access.PrivacyWrite)
	require.Empty(t, access.RoleScopes("king"))

	require.NotContains(t, access.EffectiveScopes(access.Owner, nil, false), access.WorkspacesWrite)
	require.Contains(t, access.EffectiveScopes(access.Owner, nil, true), access.WorkspacesWrite)
	require.NotContains(t, access.EffectiveScopes(access.Admin, nil, true), access.WorkspacesWrite)
	require.Equal(t, []string{access.ContactsRead}, access.EffectiveScopes(access.Agent, []string{access.ContactsRead, access.PrivacyWrite}, false),
		"a scope that the role lacks is not gained")
}

// published puts a key on the topic and gives its text.
func published(t *testing.T, b *bus.Bus, change func(*pb.AccessKey)) (id, text string) {
	t.Helper()
	id, text, hash := access.NewKey()
	k := &pb.AccessKey{Id: id, WorkspaceId: "w1", Role: access.Agent, MemberId: "m1", Hash: hash}
	if change != nil {
		change(k)
	}
	publish(t, b, k)
	return id, text
}

func publish(t *testing.T, b *bus.Bus, k *pb.AccessKey) {
	t.Helper()
	value, err := proto.Marshal(k)
	require.NoError(t, err)
	require.NoError(t, b.Publish(t.Context(), bus.Message{Topic: access.Topic().Name, Key: k.GetId(), Value: value}))
}

func TestDirectory(t *testing.T) {
	bustest.Each(t, func(t *testing.T, b *bus.Bus) {
		require.NoError(t, b.EnsureTopics(t.Context(), access.Topic()))
		var now atomic.Int64
		now.Store(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro())
		d := access.NewDirectory(b, func() time.Time { return time.UnixMicro(now.Load()) })

		_, before := published(t, b, nil)
		call := func(authorization string) *httptest.ResponseRecorder {
			h := d.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				c, ok := access.From(r.Context())
				require.True(t, ok)
				w.Header().Set("Workspace", c.WorkspaceID)
				w.Header().Set("Scopes", strings.Join(c.Scopes, " "))
			}))
			r := httptest.NewRequest(http.MethodGet, "/v1/contacts", nil)
			if authorization != "" {
				r.Header.Set("Authorization", authorization)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w
		}
		require.Equal(t, http.StatusServiceUnavailable, call("Bearer "+before).Code, "nobody is let in, or refused, before the list is read")

		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- d.Run(ctx) }()
		defer func() { cancel(); <-done }()
		require.Eventually(t, d.Ready, 20*time.Second, 10*time.Millisecond)

		ok := call("Bearer " + before)
		require.Equal(t, http.StatusOK, ok.Code)
		require.Equal(t, "w1", ok.Header().Get("Workspace"))
		require.Equal(t, http.StatusOK, call("bearer "+before).Code, "the scheme is case-insensitive (RFC 9110, 11.1)")

		_, fresh := published(t, b, nil)
		require.Equal(t, http.StatusOK, call("Bearer "+fresh).Code, "a key works as soon as it was published, without a pause")

		_, stranger, _ := access.NewKey()
		for _, bad := range []string{"", "Bearer ", "Basic " + before, "Bearer nonsense", "Bearer " + stranger, "Bearer " + before[:len(before)-1] + "x"} {
			w := call(bad)
			require.Equal(t, http.StatusUnauthorized, w.Code, bad)
			require.Contains(t, w.Header().Get("WWW-Authenticate"), `Bearer realm="tributary"`)
			require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
			require.NotContains(t, w.Body.String(), "trb_"+stranger[4:10])
		}

		expires := time.UnixMicro(now.Load()).Add(time.Hour)
		_, expiring := published(t, b, func(k *pb.AccessKey) { k.ExpiresAtUs = expires.UnixMicro() })
		require.Equal(t, http.StatusOK, call("Bearer "+expiring).Code)
		now.Store(expires.UnixMicro())
		require.Equal(t, http.StatusUnauthorized, call("Bearer "+expiring).Code)

		var record *pb.AccessKey
		_, revoked := published(t, b, func(k *pb.AccessKey) { record = k })
		require.Equal(t, http.StatusOK, call("Bearer "+revoked).Code)
		record.Revoked = true
		publish(t, b, record)
		require.Eventually(t, func() bool { return call("Bearer "+revoked).Code == http.StatusUnauthorized }, 10*time.Second, 10*time.Millisecond)
	})
}
