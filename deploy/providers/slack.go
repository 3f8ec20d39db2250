package providers

import (
	"context"
	"fmt"
	"time"

	"tributary.dev/deploy/mesh"
	"tributary.dev/libs/channel/standin"
)

const (
	slackTeam, slackApp = "T0STANDIN", "A0STANDIN"
	slackSecret         = "standin-slack-signing-secret"
	// The app's own, by which a workspace's owner installs it: T0OWNED, whose name is Owned.
	slackClient, slackClientSecret = "1.1", "standin-slack-client-secret"
)

type slack struct{ *standin.Slack }

func startSlack(address string, _ *Host) (Provider, error) {
	s, err := standin.NewSlack(address, nil, nil)
	if err == nil {
		s.OAuth.Configure(func(c *standin.SlackOAuthConfig) {
			c.ClientID, c.ClientSecret, c.AppID, c.Team, c.TeamName = slackClient, slackClientSecret, slackApp, "T0OWNED", "Owned"
		})
	}
	return slack{s}, err
}

func (slack) Channel() string { return "slack" }
func (slack) Name() string    { return "Slack" }
func (slack) Secret() string  { return slackSecret }

func (s slack) Settings() map[string]string {
	return map[string]string{"TRIBUTARY_SLACK_API_URL": s.APIURL(), "TRIBUTARY_CONNECT_SLACK_AUTHORISE_URL": s.URL + "/oauth/v2/authorize"}
}

func (slack) Connect(ctx context.Context, api *mesh.Client) error {
	_, err := connect(ctx, api, mesh.Object{
		"channel": "slack", "name": "standin", "external_id": slackApp, "client_id": slackClient,
		"secrets": mesh.Object{"signing_secret": slackSecret, "client_secret": slackClientSecret},
	}, mesh.Object{
		"channel": "slack", "name": "Stand-in team", "external_id": slackTeam, "credentials": mesh.Object{"bot_token": "xoxb-standin"},
	})
	return err
}

func (slack) Says(person, n int, text string, now time.Time) Webhook {
	ts := fmt.Sprintf("%d.%06d", now.Unix(), n%1_000_000)
	event := standin.SlackMessage(fmt.Sprintf("D0STANDIN%d", person), "im", fmt.Sprintf("U0STANDIN%d", person), ts, "", text)
	body := standin.SlackEvent(slackTeam, slackApp, fmt.Sprintf("EvSTANDIN%d", n), now, event)
	return Webhook{"/webhooks/slack/standin", standin.SlackHeader(slackSecret, body, now), body}
}

func (s slack) Taken() (all []Message) {
	for _, p := range s.Posts() {
		all = append(all, Message{p.Channel, p.Text})
	}
	return all
}
