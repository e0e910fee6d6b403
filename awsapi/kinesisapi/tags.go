package kinesisapi

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/shardlog/shardlog/stream"
)

// tagText are the characters of which keys and values of tags are made.
var tagText = regexp.MustCompile(`^[\x{00C0}-\x{1FFF}\x{2C00}-\x{D7FF}\w./\-=+: @%\s]*$`)

// checkTags refuses keys and values with other characters.
func (c *call) checkTags(doing string, texts ...string) error {
	for _, s := range texts {
		if !tagText.MatchString(s) {
			return invalid("Some tags contain invalid characters. Valid characters: Unicode letters, digits, white space, _ . / = + - %% @.")
		}
	}
	for _, s := range texts {
		if strings.Contains(s, "%") {
			return invalid("Failed to %s %s under account %s because some tags contained illegal characters. The allowed characters are "+
				"Unicode letters, white-spaces, '_',',','/','=','+','-','@'.", doing, c.name, c.scope.account)
		}
	}
	return nil
}

// newTags returns the tags that there are together with those of the request.
func (c *call) newTags(have map[string]string, doing string) (map[string]string, error) {
	given := get[pairs](c.in, "Tags")
	all := maps.Clone(have)
	if all == nil {
		all = map[string]string{}
	}
	var texts []string
	for _, p := range given {
		all[p.key] = p.value
		texts = append(texts, p.key, p.value)
	}
	if err := c.checkTags(doing, texts...); err != nil {
		return nil, err
	}
	if len(all) > stream.MaxTags {
		return nil, invalid("Failed to %s %s under account %s because a given stream cannot have more than %d tags associated with it.", doing, c.name, c.scope.account, stream.MaxTags)
	}
	return all, nil
}

// tagged is what has tags: a stream or a consumer.
type tagged struct {
	tags   map[string]string
	set    func(map[string]string) error
	remove func([]string) error
}

func (c *call) streamTags(s *streamState) tagged {
	return tagged{
		tags:   s.st.Info().Tags,
		set:    func(all map[string]string) error { return s.st.SetTags(c.ctx, all) },
		remove: func(keys []string) error { return s.st.RemoveTags(c.ctx, keys...) },
	}
}

func (c *call) addTags(t tagged) error {
	all, err := c.newTags(t.tags, "add tags to stream")
	if err == nil {
		err = t.set(all)
	}
	return err
}

func (c *call) removeTags(t tagged) error {
	var keys []string
	for _, k := range get[[]any](c.in, "TagKeys") {
		keys = append(keys, k.(string))
	}
	if err := c.checkTags("remove tags from stream", keys...); err != nil {
		return err
	}
	return t.remove(keys)
}

func (c *call) writeTags(tags map[string]string, after string, limit int) (more bool) {
	keys := slices.Sorted(maps.Keys(tags))
	if from, found := slices.BinarySearch(keys, after); after != "" {
		if found {
			from++
		}
		keys = keys[from:]
	}
	if more = limit > 0 && len(keys) > limit; more {
		keys = keys[:limit]
	}
	e := &c.out
	e.key("Tags")
	e.list()
	for _, k := range keys {
		e.open()
		e.strField("Key", k)
		e.strField("Value", tags[k])
		e.close()
	}
	e.endList()
	return more
}

func addTagsToStream(c *call) error {
	s, err := c.active()
	if err != nil {
		return err
	}
	defer s.control.Unlock()
	return c.addTags(c.streamTags(s))
}

func removeTagsFromStream(c *call) error {
	s, err := c.active()
	if err != nil {
		return err
	}
	defer s.control.Unlock()
	return c.removeTags(c.streamTags(s))
}

func listTagsForStream(c *call) error {
	s, err := c.stream()
	if err != nil {
		return err
	}
	c.out.open()
	more := c.writeTags(s.st.Info().Tags, c.in.str("ExclusiveStartTagKey"), int(c.in.integer("Limit")))
	c.out.boolField("HasMoreTags", more)
	c.out.close()
	return nil
}

// resource finds what a ResourceARN names, and locks the control of its
// stream; consumer is nil for a stream.
func (c *call) resource() (s *streamState, con *consumer, err error) {
	arn := c.in.str("ResourceARN")
	p, ok := parseARN(arn)
	if !ok {
		return nil, nil, invalid("The ARN %s is not that of a stream or of a consumer.", arn)
	}
	c.scope, c.name = p.scope, p.stream
	if s, err = c.h.find(c.ctx, c.scope, c.name); err != nil {
		return nil, nil, err
	}
	s.control.Lock()
	if p.consumer != "" {
		if con = s.byARN(p.consumer, c.h.now()); con == nil {
			s.control.Unlock()
			return nil, nil, c.noConsumer(arn)
		}
	}
	return s, con, nil
}

// resourceTags finds the tags of what a ResourceARN names.
func (c *call) resourceTags(do func(tagged) error) error {
	s, con, err := c.resource()
	if err != nil {
		return err
	}
	defer s.control.Unlock()
	if con == nil {
		return do(c.streamTags(s))
	}
	return do(tagged{
		tags: con.Tags,
		set: func(all map[string]string) error {
			return s.edit(c.ctx, con, func(next *consumer) { next.Tags = all })
		},
		remove: func(keys []string) error {
			return s.edit(c.ctx, con, func(next *consumer) {
				next.Tags = maps.Clone(next.Tags)
				for _, k := range keys {
					delete(next.Tags, k)
				}
			})
		},
	})
}

func tagResource(c *call) error { return c.resourceTags(c.addTags) }

func untagResource(c *call) error { return c.resourceTags(c.removeTags) }

func listTagsForResource(c *call) error {
	return c.resourceTags(func(t tagged) error {
		c.out.open()
		c.writeTags(t.tags, "", 0)
		c.out.close()
		return nil
	})
}
