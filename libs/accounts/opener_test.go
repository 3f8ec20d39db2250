package accounts

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gocloud.dev/secrets"
	_ "gocloud.dev/secrets/localsecrets" // base64key://

	pb "tributary.dev/proto/gen/tributary/v1"
)

// TestOpenedCredentialsGoWithTheSealedOnes also where they were being opened when those went.
func TestOpenedCredentialsGoWithTheSealedOnes(t *testing.T) {
	keeper, err := secrets.OpenKeeper(t.Context(), "base64key://smGbjm71Nxd1Ig5FS0wj9SlbzAIrnolCz9bQQ6uAhl4=")
	require.NoError(t, err)
	t.Cleanup(func() { keeper.Close() })
	sealed, err := Sealed(t.Context(), keeper, &pb.ConnectionCredentials{Values: map[string]string{"bot_token": "xoxb"}})
	require.NoError(t, err)
	c := &pb.Connection{Id: "c1", SealedCredentials: sealed}

	o := newOpener(keeper)
	kept := func() bool {
		_, ok := cached(o, o.connections, c.GetId(), sealed)
		return ok
	}
	open := func() {
		values, err := o.connection(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, "xoxb", values["bot_token"])
	}
	open()
	require.False(t, kept(), "no table has told of them yet")
	o.keepConnection(c.GetId(), sealed)
	open()
	require.True(t, kept())
	o.keepConnection(c.GetId(), []byte("others"))
	open() // by who still has the connection as it was
	require.False(t, kept(), "they were replaced")
	o.keepConnection(c.GetId(), sealed)
	open()
	o.keepConnection(c.GetId(), nil)
	open()
	require.False(t, kept(), "they are gone")
	require.Empty(t, o.connections)
}
