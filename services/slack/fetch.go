package slack

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/slack-go/slack"
	"tributary.dev/libs/channel"
)

// Media is a private file of Slack, fetched with the bot token; a file that lies elsewhere (a link that a
// person shared as a file) is asked for without.
func (a *Adapter) Media(conn *channel.Connection, ref channel.MediaRef) (channel.MediaRequest, error) {
	u, err := url.Parse(ref.URL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return channel.MediaRequest{}, &channel.Error{Class: channel.ClassReject, Code: "no_url"}
	}
	request := channel.MediaRequest{URL: ref.URL}
	if a.mayHaveToken(u) {
		request.Header = http.Header{"Authorization": {"Bearer " + conn.Credentials["bot_token"]}}
		request.HeaderHosts = []string{u.Host}
	}
	return request, nil
}

// Locate asks files.info about a file of which the event had the id alone: one that Slack Connect keeps behind
// check_file_info (https://docs.slack.dev/apis/slack-connect/), or one that the workspace's plan hid.
func (a *Adapter) Locate(ctx context.Context, conn *channel.Connection, ref channel.MediaRef) (channel.MediaRef, error) {
	if !isID(ref.ExternalID) {
		return ref, &channel.Error{Class: channel.ClassReject, Code: "no_url"}
	}
	f, _, _, err := a.client(conn).GetFileInfoContext(ctx, ref.ExternalID, 0, 0)
	if err != nil {
		return ref, callError(err)
	}
	ref.URL, ref.ContentType = either(f.URLPrivateDownload, f.URLPrivate), f.Mimetype
	switch {
	case f.Mode == "tombstone":
		return ref, &channel.Error{Class: channel.ClassReject, Code: "file_deleted"}
	case f.Mode == "hidden_by_limit":
		return ref, &channel.Error{Class: channel.ClassReject, Code: f.Mode}
	case ref.URL == "" && f.FileAccess != "" && f.FileAccess != "visible":
		return ref, &channel.Error{Class: channel.ClassReject, Code: word(f.FileAccess)}
	case ref.URL == "":
		return ref, &channel.Error{Class: channel.ClassReject, Code: "no_url"}
	}
	return ref, nil
}

// mayHaveToken: Slack's own hosts over TLS, or the host that stands in for its API.
func (a *Adapter) mayHaveToken(u *url.URL) bool {
	if api, err := url.Parse(a.apiURL); err == nil && u.Host == api.Host && u.Scheme == api.Scheme {
		return true
	}
	host := strings.ToLower(u.Hostname())
	return u.Scheme == "https" && (host == "slack.com" || strings.HasSuffix(host, ".slack.com"))
}

// Profile asks users.info, or bots.info for a bot without a user.
func (a *Adapter) Profile(ctx context.Context, conn *channel.Connection, identity channel.Identity) (channel.Profile, bool, error) {
	_, id, _ := strings.Cut(identity.Value, ":")
	if !isID(id) {
		return channel.Profile{}, false, nil
	}
	api := a.client(conn)
	switch identity.Kind {
	case "slack_user":
		u, err := api.GetUserInfoContext(ctx, id)
		if err != nil {
			return channel.Profile{}, false, absent(err)
		}
		return profileOf(u), true, nil
	case "slack_bot":
		b, err := api.GetBotInfoContext(ctx, slack.GetBotInfoParameters{Bot: id})
		if err != nil {
			return channel.Profile{}, false, absent(err)
		}
		return channel.Profile{Name: b.Name, AvatarURL: b.Icons.Image72}, b.Name != "", nil
	}
	return channel.Profile{}, false, nil
}

// absent is nil where Slack says that there is nobody, or nobody to be seen.
func absent(err error) error {
	var refused slack.SlackErrorResponse
	if errors.As(err, &refused) {
		switch refused.Err {
		case "user_not_found", "user_not_visible", "users_not_found", "bot_not_found":
			return nil
		}
	}
	return callError(err)
}

func profileOf(u *slack.User) channel.Profile {
	p := channel.Profile{
		Name:   either(u.Profile.RealName, either(u.RealName, u.Profile.DisplayName)),
		Handle: either(u.Profile.DisplayName, u.Name),
		Email:  u.Profile.Email, Phone: u.Profile.Phone, Locale: u.Locale, TimeZone: u.TZ,
	}
	for _, image := range []string{u.Profile.Image512, u.Profile.Image192, u.Profile.Image72} {
		p.AvatarURL = either(p.AvatarURL, image)
	}
	return p
}
