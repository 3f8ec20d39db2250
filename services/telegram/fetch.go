package telegram

import (
	"context"
	"net/url"
	"strings"

	"tributary.dev/libs/channel"
)

// Locate asks Telegram where a file lies (https://core.telegram.org/bots/api#getfile): at an address with the token in it,
// good for an hour, which is asked for at once. It is of the API's own host, whatever the answer says.
func (a *Adapter) Locate(ctx context.Context, conn *channel.Connection, ref channel.MediaRef) (channel.MediaRef, error) {
	if !isFileID(ref.ExternalID) {
		return ref, reject("no_file_id", "")
	}
	var got struct {
		Path string `json:"file_path"`
	}
	form, err := channel.NewForm(ctx, map[string]string{"file_id": ref.ExternalID}, "", nil)
	if err == nil {
		err = a.call(ctx, conn, "getFile", form, &got)
	}
	if err == nil && (got.Path == "" || strings.Contains(got.Path, "..")) {
		err = reject("no_file_path", "")
	}
	if err != nil {
		return ref, err
	}
	at := &url.URL{Path: "/file/bot" + conn.Credentials["bot_token"] + "/" + got.Path}
	ref.URL = a.apiURL + at.EscapedPath()
	return ref, nil
}

// Media is where Locate found it: no event of Telegram's names an address.
func (a *Adapter) Media(_ *channel.Connection, ref channel.MediaRef) (channel.MediaRequest, error) {
	if !strings.HasPrefix(ref.URL, a.apiURL+"/file/bot") {
		return channel.MediaRequest{}, reject("no_file", "")
	}
	return channel.MediaRequest{URL: ref.URL}, nil
}

// Profile is what each update tells of its author already.
func (a *Adapter) Profile(context.Context, *channel.Connection, channel.Identity) (channel.Profile, bool, error) {
	return channel.Profile{}, false, nil
}
