package slack

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
)

func TestTheAccountIsWhereTheAppIsInstalled(t *testing.T) {
	for name, c := range map[string]struct {
		envelope string
		want     []installation
	}{
		"authorization first":         {`{"team_id":"T0FOREIGN","context_team_id":"T2","authorizations":[{"team_id":"T1"}]}`, []installation{{"T1", ""}}},
		"then the context":            {`{"team_id":"T0FOREIGN","context_team_id":"T2","authorizations":[{"team_id":null}]}`, []installation{{"T2", ""}}},
		"then the event's own":        {`{"team_id":"T3"}`, []installation{{"T3", ""}}},
		"of several, each once":       {`{"team_id":"T1","authorizations":[{"team_id":"T1"},{"team_id":"T2"},{"team_id":"T1"}]}`, []installation{{"T1", ""}, {"T2", ""}}},
		"a team of an organisation":   {`{"team_id":"T1","enterprise_id":"E1","authorizations":[{"team_id":"T1","enterprise_id":"E1"}]}`, []installation{{"T1", "E1"}}},
		"a whole organisation":        {`{"team_id":"T1","enterprise_id":"E1","authorizations":[{"team_id":null,"enterprise_id":"E1","is_enterprise_install":true}]}`, []installation{{"E1", "E1"}}},
		"the same, with a team named": {`{"team_id":"T1","authorizations":[{"team_id":"T1","enterprise_id":"E1","is_enterprise_install":true}]}`, []installation{{"E1", "E1"}}},
		"an organisation alone":       {`{"team_id":null,"enterprise_id":"E1","authorizations":[]}`, []installation{{"E1", "E1"}}},
		"nothing that is an id":       {`{"team_id":"t 1","authorizations":[{"team_id":7}]}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var env envelope
			require.NoError(t, channel.Decode([]byte(c.envelope), &env))
			assert.Equal(t, c.want, installations(env))
		})
	}
}

func TestAPersonIsTheSameInAllTeamsOfAnOrganisation(t *testing.T) {
	for name, c := range map[string]struct {
		in     installation
		shared bool
		team   string
		want   string
	}{
		"no organisation, no team named":      {installation{"T1", ""}, false, "", "T1:U1"},
		"no organisation, another team":       {installation{"T1", ""}, true, "T2", "T2:U1"},
		"another team of the organisation":    {installation{"T1", "E1"}, false, "T2", "E1:U1"},
		"its own team":                        {installation{"T1", "E1"}, true, "T1", "E1:U1"},
		"the organisation itself":             {installation{"T1", "E1"}, true, "E1", "E1:U1"},
		"the team that it was seen through":   {installation{"E1", "E1"}, true, "T0CONTEXT", "E1:U1"},
		"somebody else's, in Slack Connect":   {installation{"E1", "E1"}, true, "T9", "T9:U1"},
		"another organisation's":              {installation{"E1", "E1"}, true, "E9", "E9:U1"},
		"in Slack Connect, nobody says whose": {installation{"E1", "E1"}, true, "", "E1:U1"},
	} {
		t.Run(name, func(t *testing.T) {
			n := normaliser{installation: c.in, shared: c.shared, env: envelope{ContextTeamID: "T0CONTEXT"}}
			assert.Equal(t, c.want, n.person(c.team, "U1").Value)
		})
	}
}
