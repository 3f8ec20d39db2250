package sms

import (
	"context"
	"net/url"
	"strings"

	"tributary.dev/libs/channel"
)

// Media is at the provider, which wants the account's credentials before it gives it.
func (a *Adapter) Media(conn *channel.Connection, ref channel.MediaRef) (channel.MediaRequest, error) {
	p := a.provider(conn.Settings)
	u, err := url.Parse(ref.URL)
	if p == nil || err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return channel.MediaRequest{}, &channel.Error{Class: channel.ClassReject, Code: "no_url"}
	}
	request := channel.MediaRequest{URL: ref.URL}
	if header, ok := p.mediaHeader(conn, u); ok {
		request.Header, request.HeaderHosts = header, []string{u.Host}
	}
	return request, nil
}

// Profile is nothing that a provider of text messages knows.
func (a *Adapter) Profile(context.Context, *channel.Connection, channel.Identity) (channel.Profile, bool, error) {
	return channel.Profile{}, false, nil
}

func attachmentKind(contentType string) string {
	switch kind, _, _ := strings.Cut(contentType, "/"); kind {
	case "image", "audio", "video":
		return kind
	}
	return "file"
}
