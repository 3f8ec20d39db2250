package messenger

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"tributary.dev/libs/channel"
)

// Media lies at an address that Meta signed: whoever has it may fetch it, until it expires. No credentials go there.
func (a *Adapter) Media(_ *channel.Connection, ref channel.MediaRef) (channel.MediaRequest, error) {
	u, err := url.Parse(ref.URL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return channel.MediaRequest{}, &channel.Error{Class: channel.ClassReject, Code: "no_url"}
	}
	return channel.MediaRequest{URL: ref.URL}, nil
}

// Profile asks for a person's name and picture. Meta gives them only of who lets it, and to apps that it reviewed:
// otherwise there is none
// (https://developers.facebook.com/documentation/business-messaging/messenger-platform/identity/user-profile).
func (a *Adapter) Profile(ctx context.Context, conn *channel.Connection, identity channel.Identity) (channel.Profile, bool, error) {
	page, psid, _ := strings.Cut(identity.Value, ":")
	if identity.Kind != identityKind || page != conn.ExternalID || !isID(loose(psid)) {
		return channel.Profile{}, false, nil
	}
	var person struct {
		FirstName string `json:"first_name"`
		LastName  string `json:"last_name"`
		Picture   string `json:"profile_pic"`
	}
	err := a.do(ctx, conn, http.MethodGet, "/"+psid, url.Values{"fields": {"first_name,last_name,profile_pic"}}, nil, &person)
	switch {
	case isRefusal(err, "10", "100", "200", "803", "2018218"): // no permission, no such person, none to be had
		return channel.Profile{}, false, nil
	case err != nil:
		return channel.Profile{}, false, err
	}
	p := channel.Profile{Name: strings.TrimSpace(person.FirstName + " " + person.LastName), AvatarURL: person.Picture}
	return p, p.Name != "" || p.AvatarURL != "", nil
}
