package slack

import (
	"net/url"
	"strings"

	"tributary.dev/libs/channel"
)

// command takes a slash command as a message of who gave it (https://docs.slack.dev/interactivity/implementing-slash-commands).
// It can't be given in a thread and begins none, so it belongs to the conversation of the channel itself. Slack gives it
// no time: that of its receipt counts. Its response_url and trigger_id are credentials for a while: neither is kept.
//
// A direct message that it was given in may be one of two other people's, where the app can't answer. It is taken as
// said to the app, and its channel never becomes the place of the conversation with the person.
func (n *normaliser) command(form url.Values) {
	n.env.APIAppID = form.Get("api_app_id")
	n.installation = installed(form.Get("team_id"), form.Get("enterprise_id"), form.Get("is_enterprise_install") == "true")
	channelID, userID, trigger := form.Get("channel_id"), form.Get("user_id"), form.Get("trigger_id")
	switch {
	case !isID(n.account):
		n.fault("command.team")
		return
	case !isID(channelID) || !isID(userID) || trigger == "":
		n.fault("command")
		return
	}
	in := inChannel(channelID)
	if !in.Group {
		in.ID = ""
	}
	text := &plain{team: n.home()}
	text.markup(strings.TrimSpace(form.Get("command") + " " + form.Get("text")))
	id := "command:" + digest("command", trigger)
	who := n.person("", userID)
	n.add(channel.Event{
		Type: channel.TypeMessage, SourceType: "command", Key: id,
		Thread: in, Author: who, Contact: directly(channelID, "", who),
		ExternalID: id, Content: &channel.Content{Text: text.String(), Mentions: text.mentions},
	})
}
