package channeltest

import "testing"

// mesh runs the samples through a whole ingress whose surroundings fail.
func mesh(t *testing.T, kit Kit, samples []sample) {}
