/* A compiler's way with memory: for each function it makes a tree of small nodes with names and
 * growing lists, and a graph of instructions beside it; the graph goes at the function's end, the
 * tree stays for the whole unit, and everything is freed when the unit is done. One thread.
 *
 * The figure is nodes per second; the work is fixed. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "workload.h"

typedef struct Node {
    struct Node *next; /* all nodes that live as long as this one */
    char *name;        /* or NULL */
    struct Node **operands;
    size_t operand_count, operand_room;
} Node;

static uint64_t state;

/* Nodes come in a few dozen kinds, each with its own size above the common part. */
static Node *make_node(Node **all)
{
    static const unsigned char extra[] = {0, 8, 8, 16, 16, 16, 24, 32, 40, 48, 64, 96, 120, 160};
    Node *node = calloc(1, sizeof *node + extra[bench_random(&state) % sizeof extra]);
    if (node == NULL)
        workload_fail("compiler", "out of memory");
    node->next = *all;
    *all = node;
    return node;
}

static void give_name(Node *node)
{
    size_t length = bench_log_between(&state, 2, 40);
    node->name = workload_block(length);
    memset(node->name, 'n', length);
}

/* Lists of operands begin small and double. */
static void add_operand(Node *node, Node *operand)
{
    if (node->operand_count == node->operand_room) {
        node->operand_room = node->operand_room ? node->operand_room * 2 : 2;
        node->operands = realloc(node->operands, node->operand_room * sizeof(Node *));
        if (node->operands == NULL)
            workload_fail("compiler", "out of memory");
    }
    node->operands[node->operand_count++] = operand;
}

static Node *make_graph(size_t nodes, unsigned named_of_8)
{
    Node *all = NULL;
    Node *parent = make_node(&all);
    for (size_t i = 1; i < nodes; i++) {
        Node *node = make_node(&all);
        uint32_t dice = bench_random(&state);
        if ((dice & 7) < named_of_8)
            give_name(node);
        add_operand(parent, node);
        if ((dice & 0x30) == 0) /* every fourth becomes the parent of what follows */
            parent = node;
    }
    return all;
}

static void free_graph(Node *node)
{
    while (node != NULL) {
        Node *next = node->next;
        free(node->name);
        free(node->operands);
        free(node);
        node = next;
    }
}

/* A pass makes scratch memory of some KiB, and drops it. */
static void run_passes(size_t nodes)
{
    for (unsigned pass = 0; pass < 8; pass++) {
        char *bits = calloc(nodes / 8 + 1, 1);
        void *work_list = workload_block(nodes * (1 + pass % 4) * 4);
        if (bits == NULL)
            workload_fail("compiler", "out of memory");
        bits[nodes / 16] = 1;
        free(work_list);
        free(bits);
    }
}

int main(int argc, char **argv)
{
    WorkloadArgument arguments[] = {
        {"units", 1, 1e6, 4}, {"functions", 1, 1e6, 400}, {"nodes", 16, 1e6, 2000}};
    workload_arguments("compiler", argc, argv, arguments, 3);
    size_t units = (size_t)arguments[0].value;
    size_t functions = (size_t)arguments[1].value;
    size_t nodes = (size_t)arguments[2].value;
    Node **trees = workload_books(functions * sizeof *trees);
    state = bench_seed(3);
    double start = bench_now();
    for (size_t unit = 0; unit < units; unit++) {
        for (size_t i = 0; i < functions; i++) {
            trees[i] = make_graph(nodes / 2, 4);
            Node *instructions = make_graph(nodes - nodes / 2, 0);
            run_passes(nodes);
            free_graph(instructions);
        }
        for (size_t i = 0; i < functions; i++)
            free_graph(trees[i]);
    }
    double total = (double)units * (double)functions * (double)nodes;
    workload_result("compiler", total / (bench_now() - start), "nodes/s");
    return 0;
}
