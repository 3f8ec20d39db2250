package telegram

import (
	"context"
	"net/url"
	"strings"
	"time"

	"tributary.dev/libs/channel"
)

// Media asks Telegram where a file lies (https://core.telegram.org/bots/api#getfile): at an address with the token in it,
// good for an hour, which is asked for at once. It is of the API's own host, whatever the answer says.
func (a *Adapter) Media(conn *channel.Connection, ref channel.MediaRef) (channel.MediaRequest, error) {
	if !isFileID(ref.URL) {
		return channel.MediaRequest{}, reject("no_file_id", "")
	}
	//bound:timeout asking Telegram where a file lies | {} | the attachment failed
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	var got struct {
		Path string `json:"file_path"`
	}
	form, err := channel.NewForm(ctx, map[string]string{"file_id": ref.URL}, "", nil)
	if err == nil {
		err = a.call(ctx, conn, "getFile", form, &got)
	}
	if err == nil && (got.Path == "" || strings.Contains(got.Path, "..")) {
		err = reject("no_file_path", "")
	}
	if err != nil {
		return channel.MediaRequest{}, err
	}
	at := &url.URL{Path: "/file/bot" + conn.Credentials["bot_token"] + "/" + got.Path}
	return channel.MediaRequest{URL: a.apiURL + at.EscapedPath()}, nil
}

// Profile is what each update tells of its author already.
func (a *Adapter) Profile(context.Context, *channel.Connection, channel.Identity) (channel.Profile, bool, error) {
	return channel.Profile{}, false, nil
}
