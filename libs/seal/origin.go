package seal

import "strconv"

// Origin is what a part is bound to besides workspace, subject, key and category: the reader computes
// it from the record it reads.
type Origin string

// OriginContent binds a message's content to the message and the order of that content (µs).
func OriginContent(messageID string, order int64) Origin {
	return Origin("content/" + messageID + "/" + strconv.FormatInt(order, 10))
}

// OriginReaction binds a reaction's emoji to its reaction key and order.
func OriginReaction(reactionKey string, order int64) Origin {
	return Origin("reaction/" + reactionKey + "/" + strconv.FormatInt(order, 10))
}

// OriginCommand binds the words of one part and attempt of an outbound message.
func OriginCommand(messageID string, part, attempt int32) Origin {
	return Origin("command/" + messageID + "/" + strconv.Itoa(int(part)) + "/" + strconv.Itoa(int(attempt)))
}

// OriginProfile binds a profile to its subject.
func OriginProfile(subjectID string) Origin { return Origin("profile/" + subjectID) }

// OriginAttachment binds an attachment's wrapped key to the attachment.
func OriginAttachment(attachmentID string) Origin { return Origin("attachment/" + attachmentID) }

// OriginTechnical binds technical data to the event that brought it.
func OriginTechnical(eventID string) Origin { return Origin("technical/" + eventID) }

// OriginCommerce binds the state of a shop's object to it and to the order of that state (µs).
func OriginCommerce(connectionID, kind, id string, order int64) Origin {
	return Origin("commerce/" + connectionID + "/" + kind + "/" + id + "/" + strconv.FormatInt(order, 10))
}
