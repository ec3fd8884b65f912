/* SPDX-License-Identifier: MIT
 *
 * A pool of threads that share out the tasks of one launch.
 *
 * The caller's thread works too: a pool of n has n - 1 threads of its own, and the caller is worker
 * 0. A job is published under the mutex with a new generation; every worker takes indices from one
 * atomic counter; the caller waits until no worker is inside. A second caller while the pool is
 * busy, and a caller from inside a task, run inline: bits never depend on who works. In a child
 * after fork the threads do not exist: the pool notices by the process id and starts them again. */
#include "runtime/internal.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct qn_pool {
    int threads; /* the caller's included */
    int started; /* own threads that exist in this process */
    pid_t process;
    pthread_t *ids;
    pthread_mutex_t mutex, submit;
    pthread_cond_t work, done;
    uint64_t generation;
    int inside; /* workers that have not left the job yet */
    bool stop;
    qn_task_fn task;
    void *arg;
    int64_t count;
    _Atomic int64_t next;
};

typedef struct qn_worker_arg {
    qn_pool *pool;
    int index;
} worker_arg;

static _Thread_local bool in_task;

static void take(qn_pool *p, qn_task_fn task, void *arg, int64_t count, int worker)
{
    for (;;) {
        int64_t k = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed);
        if (k >= count) {
            return;
        }
        task(arg, k, worker);
    }
}

static void *work(void *a)
{
    worker_arg w = *(worker_arg *)a;
    free(a);
    qn_pool *p = w.pool;
    uint64_t seen = 0;
    in_task = true;
    pthread_mutex_lock(&p->mutex);
    for (;;) {
        while (p->generation == seen && !p->stop) {
            pthread_cond_wait(&p->work, &p->mutex);
        }
        if (p->stop) {
            break;
        }
        seen = p->generation;
        qn_task_fn task = p->task;
        void *arg = p->arg;
        int64_t count = p->count;
        pthread_mutex_unlock(&p->mutex);
        take(p, task, arg, count, w.index);
        pthread_mutex_lock(&p->mutex);
        if (--p->inside == 0) {
            pthread_cond_signal(&p->done);
        }
    }
    pthread_mutex_unlock(&p->mutex);
    return NULL;
}

static void reset(qn_pool *p)
{
    pthread_mutex_init(&p->mutex, NULL);
    pthread_mutex_init(&p->submit, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->done, NULL);
    p->started = 0;
    p->inside = 0;
    p->generation = 0;
    p->stop = false;
    p->process = getpid();
}

static void start(qn_pool *p)
{
    while (p->started < p->threads - 1) {
        worker_arg *a = malloc(sizeof *a);
        if (!a) {
            break;
        }
        *a = (worker_arg){p, p->started + 1};
        if (pthread_create(&p->ids[p->started], NULL, work, a) != 0) {
            free(a);
            break;
        }
        p->started++;
    }
}

static int cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        return CPU_COUNT(&set);
    }
    return 1;
}

qn_pool *qn_pool_create(int threads)
{
    if (threads < 1) {
        threads = cores();
    }
    if (threads > 1024) {
        threads = 1024;
    }
    qn_pool *p = calloc(1, sizeof *p);
    if (!p) {
        return NULL;
    }
    p->ids = calloc((size_t)threads, sizeof *p->ids);
    if (!p->ids) {
        free(p);
        return NULL;
    }
    p->threads = threads;
    reset(p);
    start(p);
    if (p->started < threads - 1) {
        qn_pool_destroy(p);
        return NULL;
    }
    return p;
}

int qn_pool_threads(const qn_pool *p)
{
    return p ? p->threads : 1;
}

void qn_pool_destroy(qn_pool *p)
{
    if (!p) {
        return;
    }
    if (p->process == getpid()) {
        pthread_mutex_lock(&p->mutex);
        p->stop = true;
        pthread_cond_broadcast(&p->work);
        pthread_mutex_unlock(&p->mutex);
        for (int k = 0; k < p->started; k++) {
            pthread_join(p->ids[k], NULL);
        }
        pthread_mutex_destroy(&p->mutex);
        pthread_mutex_destroy(&p->submit);
        pthread_cond_destroy(&p->work);
        pthread_cond_destroy(&p->done);
    }
    free(p->ids);
    free(p);
}

static void inline_run(int64_t count, qn_task_fn task, void *arg)
{
    for (int64_t k = 0; k < count; k++) {
        task(arg, k, 0);
    }
}

void qn_pool_run(qn_pool *p, int64_t count, qn_task_fn task, void *arg)
{
    if (!p || p->threads == 1 || count <= 1 || in_task) {
        inline_run(count, task, arg);
        return;
    }
    if (p->process != getpid()) {
        reset(p); /* a child after fork: no thread of the parent lives here */
        start(p);
    }
    if (pthread_mutex_trylock(&p->submit) != 0) {
        inline_run(count, task, arg);
        return;
    }
    pthread_mutex_lock(&p->mutex);
    p->task = task;
    p->arg = arg;
    p->count = count;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    p->inside = p->started;
    p->generation++;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->mutex);
    in_task = true;
    take(p, task, arg, count, 0);
    in_task = false;
    pthread_mutex_lock(&p->mutex);
    while (p->inside > 0) {
        pthread_cond_wait(&p->done, &p->mutex);
    }
    pthread_mutex_unlock(&p->mutex);
    pthread_mutex_unlock(&p->submit);
}
