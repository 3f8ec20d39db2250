// Package slack is the adapter of Slack: its signed events become events of the mesh, and replies go out
// through the Web API.
//
// A conversation is a thread of a channel or group message (all who write there are its members), or a
// direct message with one person. What begins no thread (a slash command) is of the channel itself. The id of a message at Slack is "<channel>:<ts>"; ts is Slack's own
// clock in microseconds, kept as an exact integer, and gives every message and event its order.
//
// The rules come from https://docs.slack.dev/apis/events-api and the pages of the event types there.
package slack
