package slack

import (
	"tributary.dev/libs/channel"
)

// installation is where the app is installed: a connection's account.
type installation struct {
	// account is the team, or the organisation (E…) where the app is installed for all of its teams.
	account string
	// enterprise is the Enterprise Grid organisation that the account is of, if any.
	enterprise string
}

func installed(team, enterprise string, orgWide bool) installation {
	i := installation{account: team}
	if isID(enterprise) {
		i.enterprise = enterprise
	}
	if orgWide || !isID(team) {
		i.account = enterprise
	}
	return i
}

// installations that an event is for. In a channel shared with Slack Connect team_id may be the author's, so what
// authorizations name goes first; Slack names one of them as a rule
// (https://docs.slack.dev/apis/events-api#authorizations).
func installations(env envelope) []installation {
	var all []installation
	add := func(i installation) {
		for _, known := range all {
			if known.account == i.account {
				return
			}
		}
		if isID(i.account) {
			all = append(all, i)
		}
	}
	for _, a := range env.Authorizations {
		add(installed(a.TeamID, a.EnterpriseID, a.IsEnterpriseInstall))
	}
	if len(all) == 0 && isID(env.ContextTeamID) {
		add(installed(env.ContextTeamID, env.ContextEnterpriseID, false))
	}
	if len(all) == 0 {
		add(installed(env.TeamID, env.EnterpriseID, false))
	}
	return all
}

// person is a user of a team, which in Slack Connect is not always the connection's. Within an organisation a user is
// the same in all its teams, whichever one an event names: there they are the organisation's.
func (n *normaliser) person(team, userID string) *channel.Identity {
	of := n.home()
	foreign := n.enterprise == "" || n.shared && team != n.account && team != n.enterprise && team != n.env.ContextTeamID
	if isID(team) && foreign {
		of = team
	}
	return &channel.Identity{Kind: "slack_user", Value: of + ":" + userID}
}

// home is whose a user is that no team is named of.
func (n *normaliser) home() string { return either(n.enterprise, n.account) }

// isOurs tells our own app's acts by its bot user, which the authorization names, or by its app id.
func (n *normaliser) isOurs(userID, appID string) bool {
	if appID != "" && (appID == n.appID || appID == n.env.APIAppID) {
		return true
	}
	for _, auth := range n.env.Authorizations {
		if auth.IsBot && userID != "" && auth.UserID == userID {
			return true
		}
	}
	return false
}
