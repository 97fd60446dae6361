// One connection to an upstream broker: the loop's side.
#include "forward/line.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/secret.h"
#include "forward/line_internal.h"

static void items_free(struct list *items)
{
    for (struct list *node; (node = list_take(items));)
        free(list_entry(node, struct item, node));
}

static void line_delete(struct line *line)
{
    items_free(&line->outgoing);
    items_free(&line->flying);
    items_free(&line->finished);
    pthread_mutex_destroy(&line->lock);
    free(line->uri);
    free(line->client_id);
    free(line->username);
    secret_free(line->password);
    free(line->ca_file);
    free(line->certificate_file);
    free(line->key_file);
    free(line->prefix);
    free(line);
}

static void work(void *arg)
{
    line_work(arg);
}

// The last job that ends, ends the line.
static void worked(void *arg)
{
    struct line *line = arg;
    if (--line->jobs > 0 || !line->ended)
        return;
    if (line->freed)
        line_delete(line);
    else
        line->calls.closed(line->calls.arg);
}

static void call_worker(struct line *line)
{
    line->jobs++;
    worker_submit(line->paho, work, worked, worked, line);
}

// For what has been left for the worker: nothing, where it has yet to come for something else.
static void call_worker_once(struct line *line)
{
    pthread_mutex_lock(&line->lock);
    bool called = line->called;
    line->called = true;
    pthread_mutex_unlock(&line->lock);
    if (!called)
        call_worker(line);
}

static struct item *next_finished(struct line *line)
{
    pthread_mutex_lock(&line->lock);
    struct list *node = list_take(&line->finished);
    pthread_mutex_unlock(&line->lock);
    return node ? list_entry(node, struct item, node) : NULL;
}

static void tell_finished(struct line *line)
{
    for (struct item *item; !line->freed && (item = next_finished(line));) {
        if (item->qos == 0) {
            line->qos0_count--;
            line->qos0_bytes -= item->size;
        }
        line->calls.done(line->calls.arg, item->packet_id, item->refused);
        free(item);
    }
}

// What has happened, in the order in which it has. A call may free the line, which is deleted
// later.
void line_hear(struct line *line)
{
    pthread_mutex_lock(&line->lock);
    line->posted = false;
    bool up = line->up && !line->told_up;
    bool down = line->down && !line->told_down;
    bool more = !list_empty(&line->finished) && !list_empty(&line->outgoing);
    pthread_mutex_unlock(&line->lock);
    if (line->freed)
        return;
    if (more) // there is room for them
        call_worker_once(line);
    if (up && !line->closing) {
        line->told_up = true;
        line->calls.up(line->calls.arg);
    }
    tell_finished(line);
    if (down && !line->freed && !line->closing) {
        line->told_down = true;
        line->calls.down(line->calls.arg, line->why, line->bad_version);
    }
}

static char *copy(const char *text)
{
    return text ? mem_strdup(text) : NULL;
}

static char *server_uri(const struct forward_options *options)
{
    bool colons = strchr(options->host, ':') != NULL; // IPv6
    return mem_printf("%s://%s%s%s:%u", options->tls ? "ssl" : "tcp", colons ? "[" : "",
                      options->host, colons ? "]" : "", options->port);
}

struct line *line_open(struct loop *loop, struct worker *paho, const struct line_options *options,
                       const struct line_calls *calls)
{
    const struct forward_options *forward = options->forward;
    struct line *line = mem_alloc(sizeof *line);
    *line = (struct line){
        .loop = loop,
        .paho = paho,
        .calls = *calls,
        .version = options->version,
        .tls = forward->tls,
        .verify = forward->verify,
        .window = forward->window,
        .keepalive = forward->keepalive,
        .uri = server_uri(forward),
        .client_id = mem_strdup(forward->client_id ? forward->client_id : ""),
        .username = copy(forward->username),
        .password = copy(options->password),
        .ca_file = copy(forward->ca_file),
        .certificate_file = copy(forward->certificate_file),
        .key_file = copy(forward->key_file),
        .prefix = mem_strdup(forward->prefix ? forward->prefix : ""),
        .limits = {.packet = UINT32_MAX, .qos = 2, .retain = true},
    };
    pthread_mutex_init(&line->lock, NULL);
    list_init(&line->outgoing);
    list_init(&line->flying);
    list_init(&line->finished);
    call_worker(line);
    return line;
}

static struct bytes append(char **end, struct bytes bytes)
{
    struct bytes copied = {(uint8_t *)*end, bytes.length};
    if (bytes.length > 0)
        memcpy(*end, bytes.data, bytes.length);
    *end += bytes.length;
    return copied;
}

static struct item *item_new(struct line *line, const struct forward_message *message)
{
    size_t size = strlen(line->prefix) + message->topic.length + message->payload.length +
                  message->properties.length;
    struct item *item = mem_alloc(sizeof *item + size + 1);
    *item = (struct item){
        .line = line,
        .expires_ms = message->expires_ms,
        .size = size,
        .packet_id = message->packet_id,
        .qos = message->qos,
        .retain = message->retain,
    };
    list_init(&item->node);
    char *end = item->topic;
    append(&end, bytes_of(line->prefix));
    append(&end, message->topic);
    *end++ = '\0';
    item->payload = append(&end, message->payload);
    item->properties = append(&end, message->properties);
    return item;
}

bool line_send(struct line *line, const struct forward_message *message)
{
    if (message->qos == 0 &&
        (line->qos0_count >= LINE_QOS0_MESSAGES || line->qos0_bytes >= LINE_QOS0_BYTES))
        return false;
    struct item *item = item_new(line, message);
    if (item->qos == 0) {
        line->qos0_count++;
        line->qos0_bytes += item->size;
    }
    pthread_mutex_lock(&line->lock);
    list_append(&line->outgoing, &item->node);
    pthread_mutex_unlock(&line->lock);
    call_worker_once(line);
    return true;
}

static void end(struct line *line)
{
    pthread_mutex_lock(&line->lock);
    line->ending = true;
    line->deaf = line->freed;
    pthread_mutex_unlock(&line->lock);
    call_worker(line);
}

void line_close(struct line *line)
{
    line->closing = true;
    end(line);
}

void line_free(struct line *line)
{
    if (!line)
        return;
    line->freed = true;
    end(line);
}
