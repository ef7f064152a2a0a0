/* A small libnvidia-ml.so.1 for tests: FAKE_GPUS devices, the first cut into two MIG instances when FAKE_MIG is set,
   the last one lost after FAKE_LOST_AFTER questions; the first reports the Xid numbers in FAKE_XIDS, one an event.
   -DOLD leaves out what old libraries lack. Return codes as in nvml.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, DRIVER_NOT_LOADED = 9, TIMEOUT = 10, GPU_IS_LOST = 15 };
typedef struct { int index, mig; } device;
typedef struct { unsigned long long total, free, used; } memory;
typedef struct { unsigned int gpu, memory; } rates;

static device devices[8], instances[2] = {{0, 1}, {0, 1}};
static int asked;

static int number(const char *name) { const char *text = getenv(name); return text ? atoi(text) : 0; }

static int lost(const device *one) {
    int after = number("FAKE_LOST_AFTER");
    return after && one->index == number("FAKE_GPUS") - 1 && ++asked > after;
}

int nvmlInit_v2(void) { return number("FAKE_NO_DRIVER") ? DRIVER_NOT_LOADED : SUCCESS; }
int nvmlInitWithFlags(unsigned int flags) { (void)flags; return nvmlInit_v2(); }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int code) { return code == GPU_IS_LOST ? "GPU is lost" : "error"; }
int nvmlDeviceGetCount_v2(unsigned int *count) { *count = number("FAKE_GPUS"); return SUCCESS; }

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, device **found) {
    devices[index].index = index;
    *found = &devices[index];
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(device *one, memory *found) {
    if (lost(one)) return GPU_IS_LOST;
    found->total = one->mig ? 10ULL << 30 : 80ULL << 30;
    found->used = one->mig ? 1ULL << 30 : (20ULL + one->index) << 30;
    found->free = found->total - found->used;
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(device *one, rates *found) {
    if (one->mig) return NOT_SUPPORTED;
    found->gpu = 50 + one->index;
    found->memory = 10;
    return lost(one) ? GPU_IS_LOST : SUCCESS;
}

int nvmlDeviceGetPowerUsage(device *one, unsigned int *milliwatts) {
    *milliwatts = 350000;
    return one->mig ? NOT_SUPPORTED : SUCCESS;
}

int nvmlDeviceGetTemperature(device *one, int sensor, unsigned int *celsius) {
    (void)sensor;
    *celsius = 61;
    return one->mig ? NOT_SUPPORTED : SUCCESS;
}

int nvmlDeviceGetClockInfo(device *one, int type, unsigned int *mhz) {
    *mhz = type == 1 ? 1980 : 2619;
    return one->mig ? NOT_SUPPORTED : SUCCESS;
}

#ifndef OLD
int nvmlDeviceGetTotalEccErrors(device *one, int kind, int counter, unsigned long long *count) {
    *count = counter == 0 && kind == 0 ? 7 : 0;
    return one->mig ? NOT_SUPPORTED : SUCCESS;
}

typedef struct { device *device; unsigned long long type, data; unsigned int gpu_instance, compute_instance; } event;

static int events, registered;
static char waiting[64];

int nvmlEventSetCreate(int **set) { *set = &events; return SUCCESS; }
int nvmlEventSetFree(int *set) { (void)set; return SUCCESS; }
int nvmlDeviceGetIndex(device *one, unsigned int *index) { *index = one->index; return SUCCESS; }

int nvmlDeviceGetSupportedEventTypes(device *one, unsigned long long *types) {
    (void)one;
    *types = number("FAKE_NO_EVENTS") ? 0 : 0x1f;
    return SUCCESS;
}

int nvmlDeviceRegisterEvents(device *one, unsigned long long types, int *set) {
    if (set != &events || one->mig || types != (0x8 | 0x2)) return 2; /* what we do not expect */
    const char *xids = getenv("FAKE_XIDS");
    if (!registered++ && xids) strncpy(waiting, xids, sizeof waiting - 1);
    return SUCCESS;
}

int nvmlEventSetWait_v2(int *set, event *found, unsigned int milliseconds) {
    (void)milliseconds;
    if (set != &events) return 2;
    char *rest;
    long xid = strtol(waiting, &rest, 10);
    if (rest == waiting) return TIMEOUT;
    memmove(waiting, rest, strlen(rest) + 1);
    *found = (event){&devices[0], 0x8, xid, number("FAKE_MIG") ? 3 : 0xffffffff, 0xffffffff};
    return SUCCESS;
}
#endif

int nvmlDeviceGetMigMode(device *one, unsigned int *current, unsigned int *pending) {
    *current = *pending = one->index == 0 && number("FAKE_MIG");
    return SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(device *one, unsigned int *count) { (void)one; *count = 7; return SUCCESS; }

int nvmlDeviceGetMigDeviceHandleByIndex(device *one, unsigned int index, device **found) {
    (void)one;
    if (index != 0 && index != 3) return NOT_FOUND;
    *found = &instances[index ? 1 : 0];
    return SUCCESS;
}
