package email

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/channel/standin"
)

// raw is what becomes of a mail with these further header fields.
func raw(t *testing.T, fields string, body ...string) channel.Result {
	t.Helper()
	text := "Content here.\n"
	if len(body) > 0 {
		text = body[0]
	}
	if !strings.Contains(fields, "From:") {
		fields = "From: Ada <ada@example.com>\n" + fields
	}
	result, err := made(t, nil).Normalise(&channel.Request{
		Ref: connectionID, Header: http.Header{"Content-Type": {"message/rfc822"}}, Body: []byte(strings.TrimSuffix(fields, "\n") + "\n\n" + text),
	})
	require.NoError(t, err)
	return result
}

// one message.
func one(t *testing.T, fields string, body ...string) channel.Event {
	t.Helper()
	result := raw(t, fields, body...)
	require.Len(t, result.Events, 1)
	require.Equal(t, channel.TypeMessage, result.Events[0].Type)
	return result.Events[0]
}

func TestAMailFindsItsThreadByItselfAlone(t *testing.T) {
	root := one(t, "Message-ID: <first@x>").Thread.Root
	require.NotEmpty(t, root)
	for name, fields := range map[string]string{
		"the first of its references":              "Message-ID: <c@x>\nIn-Reply-To: <b@x>\nReferences: <first@x> <b@x>",
		"what it answers, without references":      "Message-ID: <c@x>\nIn-Reply-To: <first@x>",
		"the first of several that it answers":     "Message-ID: <c@x>\nIn-Reply-To: <first@x> <other@x>",
		"an answer with words around":              "Message-ID: <c@x>\nIn-Reply-To: Your message of \"Fri\" <first@x>",
		"references without brackets":              "Message-ID: <c@x>\nReferences: first@x, b@x",
		"references over lines":                    "Message-ID: <c@x>\nReferences:\n <first@x>\n\t<b@x>",
		"an id with space in it":                   "Message-ID: < first@x >",
		"a subject that is the same proves naught": "Message-ID: <first@x>\nSubject: something else",
	} {
		assert.Equal(t, root, one(t, fields).Thread.Root, name)
	}
	for name, fields := range map[string]string{
		"a mail of its own": "Message-ID: <second@x>", "the same subject": "Message-ID: <third@x>\nSubject: Re: hello", "no id": "Subject: x",
	} {
		assert.NotEqual(t, root, one(t, fields).Thread.Root, name)
	}
}

func TestASignedAddressIsTheConversation(t *testing.T) {
	k := made(t, nil).keyed(connectionID)
	token := k.token(conversation)
	assert.Len(t, token, tokenLength)
	for name, fields := range map[string]string{
		"in To":                     "To: help+" + token + "@shop.example",
		"in Cc, among others":       "To: x@example.com\nCc: Bob <bob@example.com>, \"Help\" <help+" + token + "@shop.example>",
		"in upper case":             "To: HELP+" + strings.ToUpper(token) + "@SHOP.EXAMPLE",
		"where it was delivered":    "To: undisclosed-recipients:;\nDelivered-To: help+" + token + "@shop.example",
		"before what it answers":    "To: help+" + token + "@shop.example\nReferences: <first@x>",
		"in the id that it answers": "In-Reply-To: <" + messageID + ".0.1." + token + "@shop.example>",
		"in the newest reference":   "References: <first@x> <" + messageID + ".0.1." + k.token("6f1d1c1e-5a36-5b0e-9c1f-7d1f6c0a7b12") + "@shop.example> <" + messageID + ".0.1." + token + "@shop.example>",
	} {
		e := one(t, fields)
		assert.Equal(t, channel.Thread{ConversationKey: conversation}, e.Thread, name)
		assert.Nil(t, e.Contact, name+": its contact may have another address")
		assert.Equal(t, "ada@example.com", e.Author.Value)
	}
	e := one(t, "Message-ID: <c@x>\nIn-Reply-To: <"+messageID+".0.1."+token+"@shop.example>")
	assert.Equal(t, k.mail(messageID+".0.1."+token+"@shop.example"), e.ReplyTo, "what it answers is what was sent")
}

func TestAForgedTokenIsIgnored(t *testing.T) {
	k, others := made(t, nil).keyed(connectionID), made(t, nil).keyed("another connection")
	token := k.token(conversation)
	flipped := "a" + token[1:]
	if token[0] == 'a' {
		flipped = "b" + token[1:]
	}
	for name, address := range map[string]string{
		"another connection's": "help+" + others.token(conversation) + "@shop.example", "a letter changed": "help+" + flipped + "@shop.example",
		"cut": "help+" + token[1:] + "@shop.example", "no letters of ours": "help+" + strings.Repeat("1", tokenLength) + "@shop.example",
		"nobody's": "help+@shop.example", "only a tag": "+" + token + "@shop.example",
	} {
		e := one(t, "Message-ID: <first@x>\nTo: "+address)
		assert.Equal(t, one(t, "Message-ID: <first@x>").Thread, e.Thread, name)
		assert.NotNil(t, e.Contact, name)
	}
	assert.Equal(t, "a-mailbox-whose-name-leaves-no-room-for-a-token@shop.example", k.replyAddress("a-mailbox-whose-name-leaves-no-room-for-a-token@shop.example", conversation))
	long := strings.Repeat("m", maxLocal-1-tokenLength) + "@shop.example"
	local, _, _ := cutAddress(k.replyAddress(long, conversation))
	assert.Len(t, local, maxLocal)
}

func TestAMessageIDThatIsMissingOrUsedAgainLosesNothing(t *testing.T) {
	keys := map[string]string{}
	for name, mail := range map[string][2]string{
		"one": {"Message-ID: <a@x>\nDate: Fri, 13 Mar 2026 16:45:32 +0100", "one"}, "the same id, another text": {"Message-ID: <a@x>\nDate: Fri, 13 Mar 2026 16:45:32 +0100", "two"},
		"another time": {"Message-ID: <a@x>\nDate: Fri, 13 Mar 2026 16:45:33 +0100", "one"}, "another sender": {"From: bob@example.com\nMessage-ID: <a@x>\nDate: Fri, 13 Mar 2026 16:45:32 +0100", "one"},
		"no id": {"Date: Fri, 13 Mar 2026 16:45:32 +0100", "one"}, "no id, another text": {"Date: Fri, 13 Mar 2026 16:45:32 +0100", "two"}, "neither id nor date": {"", "one"},
		"a scan":       {"Content-Type: application/pdf", "one"},
		"another scan": {"Content-Type: application/pdf", "two"},
	} {
		e := one(t, mail[0], mail[1])
		assert.Equal(t, e.Key, e.ExternalID)
		assert.Empty(t, keys[e.Key], name)
		keys[e.Key] = name
		assert.Equal(t, e.Key, one(t, "Received: by another way\n"+mail[0], strings.ReplaceAll(mail[1], "\n", "\r\n")).Key, name+": comes again by another way")
	}
	assert.Len(t, keys, 9)
}

func TestIDsTellNobodyWhatTheyAreOf(t *testing.T) {
	e := one(t, "Message-ID: <CANARY@example.com>\nIn-Reply-To: <CANARY2@example.com>")
	for _, id := range []string{e.Key, e.ExternalID, e.Thread.Root, e.ReplyTo} {
		assert.NotContains(t, id, "CANARY")
	}
	other, err := New(*DefaultConfig(), Deps{Secret: []byte("another")})
	require.NoError(t, err)
	assert.NotEqual(t, made(t, nil).keyed("c").mail("x"), other.keyed("c").mail("x"), "without the secret nobody makes them")
	assert.NotEqual(t, other.keyed("c").mail("x"), other.keyed("d").mail("x"), "nor with another connection's")
}

// TestAReportIsOfTheMailThatItReturns follows one mail of ours there and back.
func TestAReportIsOfTheMailThatItReturns(t *testing.T) {
	server, a, out := submission(t)
	s, fault := sent(t, a, out)
	require.Nil(t, fault)
	mail := server.Mails()[0]
	normalised := func(t *testing.T, text string) channel.Result {
		result, err := a.Normalise(&channel.Request{Ref: connectionID, Header: http.Header{"Content-Type": {"message/rfc822"}}, Body: []byte(text)})
		require.NoError(t, err)
		return result
	}
	bounce := string(standin.SMTPBounce(mail, "help@shop.example", "5.1.1"))
	returned, _, _ := strings.Cut(string(mail.Data), "\r\n\r\n")

	t.Run("failed", func(t *testing.T) {
		e := normalised(t, bounce).Events[0]
		assert.Equal(t, channel.TypeReceipt, e.Type)
		assert.Equal(t, s.ExternalID, e.Target)
		assert.Equal(t, channel.Receipt{MessageID: messageID, Attempt: 2, Status: channel.StatusFailed, Class: channel.ClassReject, Code: "5.1.1"}, *e.Receipt)
		assert.Equal(t, conversation, e.Thread.ConversationKey)
	})
	t.Run("full", func(t *testing.T) {
		e := normalised(t, strings.ReplaceAll(bounce, "5.1.1", "5.2.2")).Events[0]
		assert.Equal(t, channel.ClassRetry, e.Receipt.Class, "a mailbox that is full may not be tomorrow")
	})
	t.Run("without action", func(t *testing.T) {
		e := normalised(t, strings.Replace(bounce, "Action: failed\r\n", "", 1)).Events[0]
		assert.Equal(t, channel.StatusFailed, e.Receipt.Status)
	})
	t.Run("delayed", func(t *testing.T) {
		result := normalised(t, strings.Replace(bounce, "Action: failed", "Action: delayed", 1))
		assert.Empty(t, result.Events)
		assert.Equal(t, []string{"dsn.delayed"}, result.Unknown)
	})
	t.Run("delivered", func(t *testing.T) {
		e := normalised(t, strings.Replace(bounce, "Action: failed", "Action: delivered", 1)).Events[0]
		assert.Equal(t, channel.StatusDelivered, e.Receipt.Status)
	})
	t.Run("one recipient of two failed", func(t *testing.T) {
		e := normalised(t, strings.Replace(bounce, "Action: failed", "Action: delivered\r\nStatus: 2.0.0\r\n\r\nFinal-Recipient: rfc822; b@example.com\r\nAction: failed", 1)).Events[0]
		assert.Equal(t, channel.StatusFailed, e.Receipt.Status)
		assert.Equal(t, "5.1.1", e.Receipt.Code)
	})
	t.Run("the id alone, without its proof", func(t *testing.T) {
		k := a.keyed(connectionID)
		e := normalised(t, strings.ReplaceAll(bounce, k.token(conversation), strings.Repeat("a", tokenLength))).Events[0]
		assert.Empty(t, e.Receipt.MessageID, "it names the mail by its id, and proves nothing")
		assert.Empty(t, e.Thread.ConversationKey)
	})
	complaint := "From: fbl@isp.example\r\nSubject: FW: complaint\r\nMessage-ID: <arf@isp.example>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n" +
		"--b\r\nContent-Type: text/plain\r\n\r\nThis is a report.\r\n--b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nUser-Agent: x/1\r\nVersion: 1\r\nOriginal-Rcpt-To: Ada@Example.com\r\n" +
		"--b\r\nContent-Type: message/rfc822\r\n\r\n" + returned + "\r\n\r\nx\r\n--b--\r\n"
	t.Run("complaint", func(t *testing.T) {
		e := normalised(t, complaint).Events[0]
		assert.Equal(t, channel.TypeConsent, e.Type)
		assert.Equal(t, &channel.Consent{Action: "opt_out", Source: "provider"}, e.Consent)
		assert.Equal(t, "ada@example.com", e.Contact.Value)
	})
	t.Run("complaint without recipient", func(t *testing.T) {
		e := normalised(t, strings.Replace(complaint, "Original-Rcpt-To: Ada@Example.com\r\n", "", 1)).Events[0]
		assert.Equal(t, "ada@example.com", e.Contact.Value, "the returned mail says whom it went to")
	})
	t.Run("praise", func(t *testing.T) {
		e := normalised(t, strings.Replace(complaint, "abuse", "not-spam", 1)).Events[0]
		assert.Equal(t, channel.TypeMessage, e.Type)
	})
	t.Run("a forged complaint", func(t *testing.T) {
		e := normalised(t, strings.ReplaceAll(complaint, a.keyed(connectionID).token(conversation), strings.Repeat("a", tokenLength))).Events[0]
		assert.Equal(t, channel.TypeMessage, e.Type, "nobody withdraws another's consent")
		assert.True(t, e.Automated)
	})
	t.Run("our own mail came back", func(t *testing.T) {
		e := normalised(t, "Delivered-To: help@shop.example\r\n"+string(mail.Data)).Events[0]
		assert.Equal(t, channel.TypeReceipt, e.Type)
		assert.Equal(t, channel.StatusSent, e.Receipt.Status)
		assert.Equal(t, s.ExternalID, e.Receipt.ExternalID)
	})
}

func TestNoMachineIsAnsweredByAMachine(t *testing.T) {
	for name, c := range map[string]struct {
		fields string
		want   bool
	}{
		"a person": {"Subject: x", false}, "Auto-Submitted: no": {"Auto-Submitted: no", false}, "auto-replied": {"Auto-Submitted: auto-replied", true},
		"auto-generated with a comment": {"Auto-Submitted: auto-generated; owner-email=\"x@x\"", true}, "bulk": {"Precedence: Bulk", true}, "list": {"Precedence: list", true},
		"junk": {"Precedence: junk", true}, "first-class": {"Precedence: first-class", false}, "List-Id": {"List-Id: <x.example>", true}, "empty return path": {"Return-Path: <>", true},
		"a return path": {"Return-Path: <ada@example.com>", false}, "Exchange": {"X-Auto-Response-Suppress: All", true}, "autoreply": {"X-Autoreply: yes", true},
		"a report": {"Content-Type: multipart/report; boundary=b", true}, "a daemon": {"From: MAILER-DAEMON@mx.example", true},
		"our own address": {"From: help@shop.example\nDelivered-To: help+x@shop.example", true},
	} {
		assert.Equal(t, c.want, one(t, c.fields).Automated, name)
	}
}
