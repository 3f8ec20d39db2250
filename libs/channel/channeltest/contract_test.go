package channeltest

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestAShortNumberCountsByItself(t *testing.T) {
	for text, want := range map[string]bool{
		"phone:73837": true, "73837": true, `{"from":"73837"}`: true, "7383773837 73837": true,
		"0197c738-3773-8373-8373-837738370000": false, "00-0af7651916cd73837dd8448eb211c80319c-01": false, "": false,
	} {
		assert.Equal(t, want, tells(text, "73837"), text)
	}
	assert.True(t, tells("xAda Lovelacex", "Ada Lovelace"))
	assert.True(t, tells("a41791234567b", "41791234567"), "a whole number is no chance")
}
