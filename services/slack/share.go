package slack

import (
	"context"
	"io"
	"time"

	"github.com/slack-go/slack"
	"github.com/slack-go/slack/slackutilsx"
	"tributary.dev/libs/channel"
)

// share uploads a file and puts it into the channel. Only the last of the three calls is visible to
// anybody: whatever becomes of the first two, nothing was sent.
func (a *Adapter) share(ctx context.Context, out *channel.Outgoing) (channel.Sent, error) {
	api := a.client(out.Connection)
	name := either(out.Attachment.Name, "file")
	slot, err := api.GetUploadURLExternalContext(ctx, slack.GetUploadURLExternalParameters{
		FileName: name, FileSize: int(out.Attachment.Size),
	})
	if err != nil {
		return channel.Sent{}, unseen(callError(err))
	}
	content, err := out.Attachment.Open(ctx)
	if err != nil {
		return channel.Sent{}, &channel.Error{Class: channel.ClassRetry, Code: "file_unreadable", NotTaken: true}
	}
	err = upload(ctx, api, slot.UploadURL, name, content)
	if err != nil {
		return channel.Sent{}, unseen(callError(err))
	}
	channelID, threadTS := place(out.Thread.ID)
	_, err = api.CompleteUploadExternalContext(ctx, slack.CompleteUploadExternalParameters{
		Files:   []slack.FileSummary{{ID: slot.FileID, Title: name}},
		Channel: channelID, ThreadTimestamp: threadTS,
		InitialComment: slackutilsx.EscapeMessage(out.Text),
	})
	if err != nil {
		return channel.Sent{}, callError(err)
	}
	return a.shared(ctx, api, slot.FileID, channelID), nil
}

func upload(ctx context.Context, api *slack.Client, to, name string, content io.ReadCloser) error {
	defer content.Close()
	return api.UploadToURL(ctx, slack.UploadToURLParameters{UploadURL: to, Filename: name, Reader: content})
}

// shared looks for the message that the file became: Slack makes it after the call has returned and tells
// its ts in the file's shares. Without it the file is sent all the same, only unknown by id.
func (a *Adapter) shared(ctx context.Context, api *slack.Client, fileID, channelID string) channel.Sent {
	for _, wait := range a.shareWaits {
		select {
		case <-ctx.Done():
			return channel.Sent{}
		//bound:retry looking for the message that a file became | as often as shareWaits has pauses | sent, but not known by its id
		case <-time.After(wait):
		}
		f, _, _, err := api.GetFileInfoContext(ctx, fileID, 0, 0)
		if err != nil {
			continue
		}
		for _, shares := range []map[string][]slack.ShareFileInfo{f.Shares.Private, f.Shares.Public} {
			for _, share := range shares[channelID] {
				if order, ok := parseTS(share.Ts); ok {
					return channel.Sent{ExternalID: externalID(channelID, share.Ts), Order: order}
				}
			}
		}
	}
	return channel.Sent{}
}

// unseen marks a failure before anything was visible: the call may be made again.
func unseen(e *channel.Error) *channel.Error {
	e.NotTaken = e.Class == channel.ClassRetry
	return e
}
